"""Periodic checkpoints of a PyTorch trainer, copied into buffers that are kept."""

from pathlib import Path
from typing import Any

from torch import Tensor

from autoresearch_cuda.checkpoint import Snapshot, take_snapshot, write_snapshot
from autoresearch_cuda.train import Trainer
from autoresearch_trainer import saver as shared
from autoresearch_trainer.saver import Interval

__all__ = ["BackgroundSaver", "Interval"]


class BackgroundSaver(shared.BackgroundSaver):
    """See autoresearch_trainer.saver."""

    def __init__(self, folder: Path, every: Interval, steps_done: int = 0) -> None:
        super().__init__(folder, every, steps_done)
        self._buffers: dict[str, Tensor] = {}

    def copy(self, trainer: Trainer, extra: dict[str, Any]) -> Snapshot:
        return take_snapshot(trainer, extra, into=self._buffers)

    def write(self, snapshot: Snapshot) -> None:
        write_snapshot(snapshot, self.folder)
