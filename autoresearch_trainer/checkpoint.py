"""The part of a checkpoint that is the same in both engines: a folder with tensors (safetensors) and a state (JSON).

A checkpoint appears under its name complete or not at all.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from autoresearch_common.hashing import json_sha256
from autoresearch_common.reading import parse_json, read_json
from autoresearch_data.folders import replacing_folder
from autoresearch_data.packing import LoaderState
from autoresearch_trainer.config import COMPUTE_DTYPES, GPTConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.record import Steps
from autoresearch_trainer.train import TrainerBase

SCHEMA = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
MODEL, OPTIMIZER, BATCH, RNG = "model/", "optimizer/", "batch/", "rng/"
# Only the end of the run and how it is executed may differ when it is resumed.
FREE = {"time_budget", "steps", "compile", "peak_flops", "preset", "eval_tokens", "eval_batch_size", "eval_spread_over"}


class Extra(TypedDict, total=False):
    """What the caller of a save wants back: the training loop its steps so far."""

    steps: Steps


class State(TypedDict):
    """The JSON part of a checkpoint. config: TrainConfig as JSON. dataset: its fingerprint. kernels: target -> content
    hash. training_seconds: of timed steps."""

    schema: int
    config: dict[str, Any]
    dataset: str
    kernels: dict[str, str]
    steps_done: int
    timed_steps: int
    training_seconds: float
    epoch: int
    loader: LoaderState
    extra: Extra


@dataclass(frozen=True)
class Snapshot:
    """Everything that the next steps depend on, at one moment. tensors: the engine's own, by name."""

    tensors: dict[str, Any]
    state: State


def state_of(trainer: TrainerBase, extra: Extra) -> State:
    """The JSON part of a snapshot."""
    return {
        "schema": SCHEMA,
        "config": trainer.config.to_json(),
        "dataset": trainer.dataset.fingerprint,
        "kernels": {target: file.sha256 for target, file in trainer.ops.kernels.items()},
        "steps_done": trainer.steps_done,
        "timed_steps": trainer.timed_steps,
        "training_seconds": trainer.training_seconds,
        "epoch": trainer.epoch,
        "loader": trainer.loader.state(),
        "extra": extra,
    }


def write_folder(state: State, save_tensors: Callable[[Path], None], folder: Path) -> None:
    """Write a checkpoint folder; it takes the place of an older one only when it is complete and on the disk."""
    with replacing_folder(Path(folder)) as temporary:
        save_tensors(temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps({**state, "sha256": json_sha256(state)}), encoding="utf-8")
        for path in temporary.iterdir():
            with open(path, "rb+") as stream:
                os.fsync(stream.fileno())


def read_state(folder: Path) -> State:
    """The JSON part of a checkpoint. Raises ConfigError if it is missing, damaged or of another version."""
    try:
        state = read_json(Path(folder) / STATE)
        if state.pop("sha256") != json_sha256(state) or state["schema"] != SCHEMA:
            raise ValueError(f"{STATE} was altered or is of another version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"no usable checkpoint in {folder}: {error}") from error
    return state


def check_same_run(trainer: TrainerBase, state: State) -> None:
    """Raises ConfigError where the checkpoint belongs to another model, batch, optimizer or dataset."""
    mine = json.loads(json.dumps(trainer.config.to_json()))
    differing = [key for key in mine if key not in FREE and mine[key] != state["config"].get(key)]
    if differing:
        raise ConfigError(f"the checkpoint was made with another {', '.join(differing)}")
    if state["dataset"] != trainer.dataset.fingerprint:
        raise ConfigError("the checkpoint was made with another dataset")


def restore_progress(trainer: TrainerBase, state: State) -> None:
    """Counters and data of the trainer as the state has them; its arrays are the engine's affair."""
    trainer.steps_done = state["steps_done"]
    trainer.timed_steps, trainer.training_seconds = state["timed_steps"], state["training_seconds"]
    trainer.loader = trainer.new_loader(state["loader"])
    trainer.epoch = state["epoch"]


def weights_metadata(config: GPTConfig, compute_dtype: str) -> dict[str, str]:
    """What a file of weights says about its model, in safetensors' own metadata."""
    return {"config": json.dumps(asdict(config)), "compute_dtype": compute_dtype}


def read_metadata(path: Path, metadata: dict[str, str] | None) -> tuple[GPTConfig, str]:
    """(model, compute dtype) that `weights_metadata` wrote. Raises ConfigError where there is no such thing."""
    try:
        known = metadata or {}
        if known["compute_dtype"] not in COMPUTE_DTYPES:
            raise ValueError("another dtype than models compute in")
        return GPTConfig(**parse_json(known["config"], path)), known["compute_dtype"]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} does not say which model its weights belong to") from error
