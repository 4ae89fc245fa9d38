"""Periodic checkpoints beside the training: copied between two steps, written by a thread in the background."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_trainer.checkpoint import Extra, Snapshot
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.train import TrainerBase


@dataclass(frozen=True)
class Interval:
    """How often: every so many seconds, or every so many optimizer steps. Exactly one is given."""

    seconds: float | None = None
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """`90` or `90s` = seconds, `500steps` = steps. Raises ConfigError for anything else."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|steps)?", text.strip())
        value = float(found[1]) if found else 0.0
        if not found or value <= 0 or (found[2] == "steps" and value != int(value)):
            raise ConfigError(f"cannot read the interval {text!r}; use seconds (90) or steps (500steps)")
        return cls(steps=int(value)) if found[2] == "steps" else cls(seconds=value)


@dataclass
class SaveCosts:
    """written: checkpoints; skipped: due while the one before was still being written; seconds: copying, which
    training waits for, and writing, which it does not; bytes: of one checkpoint."""

    written: int = 0
    skipped: int = 0
    copy_seconds: float = 0.0
    write_seconds: float = 0.0
    bytes: int = 0


class BackgroundSaver:
    """Saves a trainer of `engine` every so often. A context manager: leaving it waits for the write under way.

    Only one write is ever under way; a checkpoint that falls due meanwhile is left out. An error of a write is raised
    at the next call, or on leaving.
    """

    def __init__(self, engine: TrainerEngine, folder: Path, every: Interval, steps_done: int = 0) -> None:
        self.engine = engine
        self.folder = Path(folder)
        self.every = every
        self.costs = SaveCosts()
        self._buffers: dict[str, Any] = {}
        self._writing: threading.Thread | None = None
        self._error: BaseException | None = None
        self._last_time, self._last_step = time.monotonic(), steps_done

    def after_step(self, trainer: TrainerBase, extra: Callable[[], Extra]) -> None:
        """Call between two steps: starts a checkpoint if one is due. `extra()` gives its JSON, which must not change
        afterwards."""
        if not self._due(trainer.steps_done):
            return
        self._last_time, self._last_step = time.monotonic(), trainer.steps_done
        if self.writing:
            self.costs.skipped += 1
            return
        self.wait()
        started = time.perf_counter()
        snapshot = self.engine.take_snapshot(trainer, extra(), self._buffers)
        self.costs.copy_seconds += time.perf_counter() - started
        self.costs.bytes = sum(t.nbytes for t in snapshot.tensors.values())
        # Not a daemon: a process that ends in the meantime still finishes the file.
        self._writing = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._writing.start()

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written at this moment."""
        return self._writing is not None and self._writing.is_alive()

    def wait(self) -> None:
        """Wait for the write under way. Raises what it raised."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise ConfigError(f"cannot write the checkpoint in {self.folder}: {error}") from error

    def _due(self, step: int) -> bool:
        if self.every.steps is not None:
            return step - self._last_step >= self.every.steps
        return self.every.seconds is not None and time.monotonic() - self._last_time >= self.every.seconds

    def _write(self, snapshot: Snapshot) -> None:
        started = time.perf_counter()
        try:
            self.engine.write_snapshot(snapshot, self.folder)
            self.costs.written += 1
        except Exception as error:  # handed to the training thread
            self._error = error
        self.costs.write_seconds += time.perf_counter() - started

    def __enter__(self) -> "BackgroundSaver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.wait()
        elif self._writing is not None:
            self._writing.join()
