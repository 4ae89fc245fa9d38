"""The part of a checkpoint that is the same in both engines: a folder with tensors (safetensors) and a state (JSON).

The state names the file of the tensors and its hash, and is replaced in one step. So the folder holds one whole
checkpoint from the first save on, whenever one is killed; what no state names is taken away by the next save.
"""

import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from autoresearch_common.files import begun, remove_abandoned, write_atomic
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import parse_json, read_json
from autoresearch_data.packing import LoaderState
from autoresearch_trainer.config import COMPUTE_DTYPES, GPTConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.record import Steps
from autoresearch_trainer.train import TrainerBase

SCHEMA = 2
STATE = "state.json"
TENSORS_FILE = re.compile(r"tensors(-[0-9a-f]{8})?\.safetensors")
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


class SavedState(State):
    """A state in its folder. files: {name: SHA-256} of what it rests on."""

    files: dict[str, str]


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
    """Save into a checkpoint folder; what it held before stays whole until this is complete and on the disk."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before = _named(folder)
    remove_abandoned(path for path in folder.glob("tensors*.safetensors") if path.name not in before)
    tensors = folder / f"tensors-{secrets.token_hex(4)}.safetensors"
    try:
        with begun(tensors):
            save_tensors(tensors)
            with open(tensors, "rb+") as stream:
                os.fsync(stream.fileno())
            saved: SavedState = {**state, "files": {tensors.name: file_sha256(tensors)}}
            write_atomic(folder / STATE, json.dumps({**saved, "sha256": json_sha256(saved)}))
    finally:
        for name in {*before, tensors.name} - _named(folder):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # a first save that failed leaves nothing
            folder.rmdir()


def _named(folder: Path) -> set[str]:
    """The files of the checkpoint that is there; none where there is no state that can be read."""
    try:
        state = read_json(folder / STATE)
        names = state.get("files", ["tensors.safetensors"])  # its name in schema 1
        return {name for name in names if TENSORS_FILE.fullmatch(name)}  # whatever else it names is not ours to remove
    except (OSError, ValueError, AttributeError, TypeError):
        return set()


def read_state(folder: Path) -> SavedState:
    """The JSON part of a checkpoint, every file that it names being what was saved.

    Raises ConfigError if one of them is missing or damaged, or the checkpoint is of another version.
    """
    folder = Path(folder)
    try:
        if not (folder / STATE).is_file():
            raise ValueError(f"{STATE} is missing" if folder.is_dir() else "there is no such folder")
        state = read_json(folder / STATE)
        if state.pop("sha256") != json_sha256(state) or state["schema"] != SCHEMA:
            raise ValueError(f"{STATE} was altered or is of another version")
        ((name, sha256),) = state["files"].items()
        if not TENSORS_FILE.fullmatch(name) or file_sha256(folder / name) != sha256:
            raise ValueError(f"{name} is not what was saved")
    except (KeyError, AttributeError, TypeError):
        raise ConfigError(f"no usable checkpoint in {folder}: {STATE} holds no checkpoint's state") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"no usable checkpoint in {folder}: {error}") from error
    return state


def tensors_of(state: SavedState, folder: Path) -> Path:
    """The file of a checkpoint's tensors."""
    (name,) = state["files"]
    return Path(folder) / name


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
