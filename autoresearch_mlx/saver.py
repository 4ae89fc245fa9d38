"""Periodic checkpoints of an MLX trainer."""

from typing import Any

from autoresearch_mlx.checkpoint import Snapshot, take_snapshot, write_snapshot
from autoresearch_mlx.train import Trainer
from autoresearch_trainer import saver as shared
from autoresearch_trainer.saver import Interval

__all__ = ["BackgroundSaver", "Interval"]


class BackgroundSaver(shared.BackgroundSaver):
    """See autoresearch_trainer.saver."""

    def copy(self, trainer: Trainer, extra: dict[str, Any]) -> Snapshot:
        return take_snapshot(trainer, extra)

    def write(self, snapshot: Snapshot) -> None:
        write_snapshot(snapshot, self.folder)
