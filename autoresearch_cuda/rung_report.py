"""How far the cheaper evaluations are from the full one; see autoresearch_trainer.rung_report."""

from functools import partial

from autoresearch_cuda.rooms import ROOMS
from autoresearch_trainer import rung_report as shared
from autoresearch_trainer.rung_report import rung_lines

__all__ = ["rung_lines", "rung_report"]

rung_report = partial(shared.rung_report, ROOMS)
