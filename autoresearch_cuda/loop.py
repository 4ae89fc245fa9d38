"""`run`: a whole training run of this engine; see autoresearch_trainer.loop.run."""

from functools import partial

from autoresearch_cuda.rooms import ROOMS
from autoresearch_trainer import loop as shared
from autoresearch_trainer.loop import RUN_FILE

__all__ = ["RUN_FILE", "run"]

run = partial(shared.run, ROOMS)
