"""Weights and exact training state on disk: safetensors for tensors, JSON for the rest, never pickle.

A checkpoint is a folder that holds a whole one from the first save on.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from autoresearch_common.files import replacing_file
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_cuda.process import wait_for
from autoresearch_cuda.train import Trainer
from autoresearch_trainer import checkpoint as shared
from autoresearch_trainer.checkpoint import BATCH, MODEL, OPTIMIZER, RNG, Extra, Snapshot
from autoresearch_trainer.errors import ConfigError


def save_weights(model: GPT, path: Path) -> None:
    """Write the parameters under their names, with the model's shape in the file's metadata. Atomic."""
    metadata = shared.weights_metadata(model.config, str(model.compute_dtype).split(".")[1])
    with replacing_file(Path(path)) as temporary:
        save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, temporary, metadata)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Parameters by name, on the CPU. Raises ConfigError if the file cannot be read as safetensors."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read weights from {path}: {error}") from error


def load_model(path: Path, ops: Ops, device: torch.device | str = "cpu") -> GPT:
    """The model that `save_weights` wrote. Raises ConfigError where the file is unreadable or no such model."""
    tensors = load_weights(path)
    with safe_open(path, framework="pt") as file:
        config, dtype = shared.read_metadata(path, file.metadata())
    model = GPT(config, ops, getattr(torch, dtype), device)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not fit its model: {error}") from error
    return model


def take_snapshot(trainer: Trainer, extra: Extra, buffers: dict[str, Tensor] | None = None) -> Snapshot:
    """The trainer's state, with JSON in `extra` that load_checkpoint gives back.

    Its tensors are the trainer's own, or, with `buffers`, copies in these (made on first use), so that
    training can go on.
    """
    tensors = {MODEL + name: p.detach() for name, p in trainer.model.named_parameters()}
    tensors |= {OPTIMIZER + name: t for name, t in trainer.optimizer.state().items()}
    # The batch that is held ready has left the loader already.
    tensors |= {BATCH + name: t for name, t in zip(("inputs", "targets"), trainer.batch, strict=True)}
    tensors |= {RNG + name: t for name, t in _rng_states(trainer.device).items()}
    if buffers is not None:
        for name, t in tensors.items():
            if name not in buffers:
                buffers[name] = torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda)
            buffers[name].copy_(t, non_blocking=True)
        wait_for(trainer.device)
        tensors = dict(buffers)
    return Snapshot(tensors, shared.state_of(trainer, extra))


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Save into a checkpoint folder; what it held before stays whole until this is complete and on the disk."""
    tensors = {name: t.contiguous() for name, t in snapshot.tensors.items()}
    shared.write_folder(snapshot.state, lambda path: save_file(tensors, path), folder)


def load_checkpoint(trainer: Trainer, folder: Path) -> Extra:
    """Put a fresh trainer where the saved one was; returns `extra`.

    Raises ConfigError if the checkpoint is missing or damaged, or belongs to another model, batch, optimizer or
    dataset. Length of the run and kernels may differ.
    """
    folder = Path(folder)
    state = shared.read_state(folder)
    try:
        tensors = load_file(shared.tensors_of(state, folder))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"no usable checkpoint in {folder}: {error}") from error
    shared.check_same_run(trainer, state)
    own: dict[str, Tensor] = {MODEL + name: p for name, p in trainer.model.named_parameters()}
    own |= {OPTIMIZER + name: t for name, t in trainer.optimizer.state().items()}
    with torch.no_grad():
        for name, target in own.items():
            if name not in tensors or tensors[name].shape != target.shape:
                raise ConfigError(f"the checkpoint in {folder} does not fit: {name}")
            target.copy_(tensors[name])
    shared.restore_progress(trainer, state)
    trainer.optimizer.steps_done = trainer.steps_done
    inputs, targets = (tensors[BATCH + name].to(trainer.device) for name in ("inputs", "targets"))
    trainer.batch = inputs, targets
    torch.set_rng_state(tensors[RNG + "cpu"])
    if trainer.device.type == "cuda" and RNG + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[RNG + "cuda"], trainer.device)
    return state["extra"]


def _rng_states(device: torch.device) -> dict[str, Tensor]:
    """The trainer draws nothing at random, but a kernel may."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
