"""Weights and exact training state on disk: safetensors for tensors, JSON for the rest, never pickle.

A checkpoint is a folder; it appears under its name complete or not at all.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from autoresearch_cuda.config import GPTConfig
from autoresearch_cuda.errors import ConfigError
from autoresearch_cuda.model import GPT
from autoresearch_cuda.ops import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_data.folders import replacing_file, replacing_folder
from autoresearch_data.hashing import json_sha256

SCHEMA = 1
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_MODEL, _OPTIMIZER, _BATCH, _RNG = "model/", "optimizer/", "batch/", "rng/"


def save_weights(model: GPT, path: Path) -> None:
    """Write the parameters under their names, with the model's shape in the file's metadata. Atomic."""
    metadata = {"config": json.dumps(asdict(model.config)), "compute_dtype": str(model.compute_dtype).split(".")[1]}
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
        metadata = file.metadata() or {}
    try:
        config, dtype = GPTConfig(**json.loads(metadata["config"])), getattr(torch, metadata["compute_dtype"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} does not say which model its weights belong to") from error
    model = GPT(config, ops, dtype, device)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not fit its model: {error}") from error
    return model


@dataclass(frozen=True)
class Snapshot:
    """Everything that the next steps depend on, at one moment. state: JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def take_snapshot(
    trainer: Trainer, extra: dict[str, Any] | None = None, into: dict[str, Tensor] | None = None
) -> Snapshot:
    """The trainer's state, with JSON in `extra` that load_checkpoint gives back.

    Its tensors are the trainer's own, or, with `into`, copies in the buffers held there (made on first use), so that
    training can go on.
    """
    tensors = {_MODEL + name: p.detach() for name, p in trainer.model.named_parameters()}
    tensors |= {_OPTIMIZER + name: t for name, t in trainer.optimizer.state().items()}
    # The batch that is held ready has left the loader already.
    tensors |= {_BATCH + name: t for name, t in zip(("inputs", "targets"), trainer.batch, strict=True)}
    tensors |= {_RNG + name: t for name, t in _rng_states(trainer.device).items()}
    if into is not None:
        for name, t in tensors.items():
            if name not in into:
                into[name] = torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda)
            into[name].copy_(t, non_blocking=True)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        tensors = dict(into)
    state = {
        "schema": SCHEMA,
        "config": trainer.config.to_json(),
        "dataset": trainer.dataset.fingerprint,
        "kernels": {target: file.sha256 for target, file in trainer.ops.kernels.items()},
        "steps_done": trainer.steps_done,
        "timed_steps": trainer.timed_steps,
        "training_seconds": trainer.training_seconds,
        "epoch": trainer.epoch,
        "loader": trainer.loader.state(),
        "extra": extra or {},
    }
    return Snapshot(tensors, state)


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Write a checkpoint folder; it takes the place of an older one only when it is complete and on the disk."""
    with replacing_folder(Path(folder)) as temporary:
        save_file({name: t.contiguous() for name, t in snapshot.tensors.items()}, temporary / _TENSORS)
        text = json.dumps({**snapshot.state, "sha256": json_sha256(snapshot.state)})
        (temporary / _STATE).write_text(text, encoding="utf-8")
        for path in temporary.iterdir():
            with open(path, "rb+") as stream:
                os.fsync(stream.fileno())


def save_checkpoint(trainer: Trainer, folder: Path, extra: dict[str, Any] | None = None) -> None:
    """Write everything that the next steps depend on. `extra`: JSON that load_checkpoint gives back."""
    write_snapshot(take_snapshot(trainer, extra), folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint. Raises ConfigError if it is missing, damaged or of another version."""
    try:
        state = json.loads((Path(folder) / _STATE).read_text(encoding="utf-8"))
        if state.pop("sha256") != json_sha256(state) or state["schema"] != SCHEMA:
            raise ValueError(f"{_STATE} was altered or is of another version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"no usable checkpoint in {folder}: {error}") from error
    return state


def load_checkpoint(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Put a fresh trainer where the saved one was; returns `extra`.

    Raises ConfigError if the checkpoint is missing or damaged, or belongs to another model, batch, optimizer or
    dataset. Length of the run and kernels may differ.
    """
    folder = Path(folder)
    state = read_state(folder)
    try:
        tensors = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"no usable checkpoint in {folder}: {error}") from error
    _check_same_run(trainer, state)
    targets = {_MODEL + name: p for name, p in trainer.model.named_parameters()}
    targets |= {_OPTIMIZER + name: t for name, t in trainer.optimizer.state().items()}
    with torch.no_grad():
        for name, target in targets.items():
            if name not in tensors or tensors[name].shape != target.shape:
                raise ConfigError(f"the checkpoint in {folder} does not fit: {name}")
            target.copy_(tensors[name])
    trainer.steps_done = trainer.optimizer.steps_done = state["steps_done"]
    trainer.timed_steps, trainer.training_seconds = state["timed_steps"], state["training_seconds"]
    trainer.loader = trainer.new_loader(state["loader"])
    trainer.epoch = state["epoch"]
    trainer.batch = tuple(tensors[_BATCH + name].to(trainer.device) for name in ("inputs", "targets"))
    torch.set_rng_state(tensors[_RNG + "cpu"])
    if trainer.device.type == "cuda" and _RNG + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[_RNG + "cuda"], trainer.device)
    return state["extra"]


def _rng_states(device: torch.device) -> dict[str, Tensor]:
    """The trainer draws nothing at random, but a kernel may."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _check_same_run(trainer: Trainer, state: dict[str, Any]) -> None:
    """Only the end of the run and how it is executed may differ."""
    free = {"time_budget", "steps", "compile", "peak_flops", "preset"}
    free |= {"eval_tokens", "eval_batch_size", "eval_spread_over"}
    mine = json.loads(json.dumps(trainer.config.to_json()))
    differing = [key for key in mine if key not in free and mine[key] != state["config"].get(key)]
    if differing:
        raise ConfigError(f"the checkpoint was made with another {', '.join(differing)}")
    if state["dataset"] != trainer.dataset.fingerprint:
        raise ConfigError("the checkpoint was made with another dataset")
