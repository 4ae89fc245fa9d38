"""Weights and exact training state on disk: safetensors for arrays, JSON for the rest, never pickle.

Files of weights are those of the PyTorch engine: one engine loads what the other saved.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from autoresearch_common.files import replacing_file
from autoresearch_mlx import arrays
from autoresearch_mlx.kernel_files import Ops
from autoresearch_mlx.model import GPT
from autoresearch_mlx.train import Trainer
from autoresearch_trainer import checkpoint as shared
from autoresearch_trainer.checkpoint import BATCH, MODEL, OPTIMIZER, RNG, Extra, Snapshot
from autoresearch_trainer.errors import ConfigError


def save_weights(model: GPT, path: Path) -> None:
    """Write the parameters under their names, with the model's shape in the file's metadata. Atomic."""
    dtype = arrays.NAMES[model.compute_dtype]
    with replacing_file(Path(path)) as temporary:
        tensors = {name: arrays.to_numpy(p) for name, p in model.params.items()}
        arrays.save(tensors, temporary, shared.weights_metadata(model.config, dtype))


def load_weights(path: Path) -> dict[str, mx.array]:
    """Parameters by name. Raises ConfigError if the file cannot be read as safetensors."""
    return {name: mx.array(value) for name, value in arrays.load(path).items()}


def load_model(path: Path, ops: Ops, device: str = "mlx") -> GPT:
    """The model that `save_weights` of either engine wrote.

    Raises ConfigError where the file is unreadable or no such model.
    """
    tensors = load_weights(path)
    with safe_open(path, framework="np") as file:
        config, dtype = shared.read_metadata(path, file.metadata())
    model = GPT(config, ops, arrays.DTYPES.get(dtype, mx.bfloat16))
    try:
        model.load(tensors)
    except ValueError as error:
        raise ConfigError(f"{path} does not fit its model: {error}") from error
    return model


def take_snapshot(trainer: Trainer, extra: Extra, buffers: dict[str, Any] | None = None) -> Snapshot:
    """The trainer's state, with JSON in `extra` that load_checkpoint gives back. Its tensors are NumPy copies, new ones
    whatever `buffers` says.

    Copies, because evaluating an array in a second thread would use that thread's own stream.
    """
    tensors = {MODEL + name: p for name, p in trainer.model.params.items()}
    tensors |= {OPTIMIZER + name: s for name, s in trainer.optimizer.state.items()}
    # The batch that is held ready has left the loader already.
    tensors |= {BATCH + name: t for name, t in zip(("inputs", "targets"), trainer.batch, strict=True)}
    # The trainer draws nothing at random, but a kernel may.
    tensors[RNG + "mlx"] = mx.random.state[0]  # type: ignore[index]  # a list; its stub says object
    return Snapshot({name: arrays.to_numpy(t) for name, t in tensors.items()}, shared.state_of(trainer, extra))


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Save into a checkpoint folder; what it held before stays whole until this is complete and on the disk."""
    shared.write_folder(snapshot.state, lambda path: arrays.save(snapshot.tensors, path), folder)


def load_checkpoint(trainer: Trainer, folder: Path) -> Extra:
    """Put a fresh trainer where the saved one was; returns `extra`.

    Raises ConfigError if the checkpoint is missing or damaged, or belongs to another engine, model, batch, optimizer
    or dataset. Length of the run and kernels may differ.
    """
    folder = Path(folder)
    state = shared.read_state(folder)
    tensors = arrays.load(shared.tensors_of(state, folder))
    shared.check_same_run(trainer, state)
    if RNG + "mlx" not in tensors:
        raise ConfigError(f"the checkpoint in {folder} was made with another engine; its weights can be loaded")
    trainer.model.params = _restored(tensors, MODEL, trainer.model.params, folder)
    trainer.optimizer.state = _restored(tensors, OPTIMIZER, trainer.optimizer.state, folder)
    shared.restore_progress(trainer, state)
    trainer.batch = mx.array(tensors[BATCH + "inputs"]), mx.array(tensors[BATCH + "targets"])
    high, low = (int(word) for word in tensors[RNG + "mlx"])
    mx.random.seed(high << 32 | low)  # MLX's state is the two halves of a seed
    return state["extra"]


def _restored(
    tensors: dict[str, np.ndarray], prefix: str, wanted: dict[str, mx.array], folder: Path
) -> dict[str, mx.array]:
    found = {}
    for name, like in wanted.items():
        value = tensors.get(prefix + name)
        if value is None or value.shape != tuple(like.shape):
            raise ConfigError(f"the checkpoint in {folder} does not fit: {prefix}{name}")
        found[name] = mx.array(value).astype(like.dtype)
    mx.eval(found)
    return found
