"""Options that several verbs have, and numbers as options."""

from __future__ import annotations

import math
from typing import Any

import click

from autoresearch_data.errors import DataError
from autoresearch_data.folders import plain_name
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.cli.subject import SomePath
from autoresearch_lab.datasets import default_dataset
from autoresearch_trainer.config import MOST_SEED, ConfigError, preset

MOST_COUNT = 10**12


class FiniteRange(click.FloatRange):
    """A range of numbers. Click's own lets NaN through every bound, for no comparison with it is true, and infinity
    where there is no bound; and no time in s is as long as what it still takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        if abs(number) > MOST_COUNT:
            self.fail(f"it is beyond {MOST_COUNT:,}, the most that is taken", param, ctx)
        return number


class Count(click.IntRange):
    """A range of whole numbers. Click's own takes any number of digits, with which no float can be multiplied."""

    def __init__(self, min: int | None = None, max: int | None = None, most: int = MOST_COUNT) -> None:
        super().__init__(min, max)
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = super().convert(value, param, ctx)
        if abs(number) > self.most:
            self.fail(f"it is beyond {self.most:,}, the most that is taken", param, ctx)
        return number


class DatasetName(click.ParamType):
    """The name of a dataset, which is that of its folder."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return plain_name(value)
        except DataError as error:
            self.fail(str(error), param, ctx)


class PresetName(click.ParamType):
    """The name of a preset, or of one with another shape, such as cpu-nano-d3-w192."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            preset(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return str(value)


PATH = SomePath()
SEED = Count(min=0, most=MOST_SEED)
PRESET = click.option("--preset", type=PresetName(), help="What to train [default: what suits this machine].")


def _dataset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Where none is named, what `train.py` takes: of the verb's --data-dir, where it has one, which is eager. None
    where a command line is only read, not run."""
    if name or ctx.obj is None:
        return name
    folder = ctx.params.get("data_dir") or ctx.obj.lab.root.datasets
    return default_dataset(folder.expanduser())


DATASET = click.option(
    "--dataset", type=DatasetName(), callback=_dataset,
    help="Prepared dataset to train on [default: the one train.py takes: climbmix, else stdlib, else the only one].",
)  # fmt: skip
SELECTION = click.option(
    "--kernels", default="baseline", show_default=True, help="baseline, promoted, or target=kernel,..."
)
_AB = Settings()
# How much an A/B measures.
LENGTH = (
    click.option("--steps", type=Count(min=2), default=_AB.steps, show_default=True,
                 help="Optimizer steps of the fixed-token trainings."),
    click.option("--race-seconds", type=FiniteRange(min=0.1), default=_AB.race_seconds, show_default=True,
                 help="Undisturbed measuring time of each of the processes."),
)  # fmt: skip
FOREIGN_LIMIT = click.option(
    "--foreign-limit", type=FiniteRange(0.0, 1.0), default=_AB.foreign_limit, show_default=True,
    help="Share of the cores that other processes may use.",
)  # fmt: skip


def names(text: str) -> tuple[str, ...]:
    """What is listed by comma, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
