"""From what was asked for to a full configuration of this engine; see autoresearch_trainer.plan."""

from functools import partial

from autoresearch_mlx.rooms import ROOMS
from autoresearch_trainer import plan as shared
from autoresearch_trainer.plan import Choice, Request

__all__ = ["Choice", "Request", "complete"]

complete = partial(shared.complete, ROOMS)
