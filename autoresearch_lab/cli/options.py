"""Options that several verbs have, and numbers as options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from autoresearch_lab.ab.settings import Settings


class FiniteRange(click.FloatRange):
    """A range of numbers. Click's own lets NaN through every bound, for no comparison with it is true, and infinity
    where there is no bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


PATH = click.Path(path_type=Path)
DATASET = click.option("--dataset", default="stdlib", show_default=True, help="Prepared dataset to train on.")
SELECTION = click.option(
    "--kernels", default="baseline", show_default=True, help="baseline, promoted, or target=kernel,..."
)
_AB = Settings()
# How much an A/B measures.
LENGTH = (
    click.option("--steps", type=click.IntRange(min=2), default=_AB.steps, show_default=True,
                 help="Optimizer steps of the fixed-token trainings."),
    click.option("--race-seconds", type=FiniteRange(min=0.1), default=_AB.race_seconds, show_default=True,
                 help="Undisturbed measuring time of each of the processes."),
)  # fmt: skip
FOREIGN_LIMIT = click.option(
    "--foreign-limit", type=FiniteRange(0.0, 1.0), default=_AB.foreign_limit, show_default=True,
    help="Share of the cores that other processes may use in an A/B.",
)  # fmt: skip


def names(text: str) -> tuple[str, ...]:
    """What is listed by comma, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
