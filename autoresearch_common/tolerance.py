"""How wrong a kernel may be: the four measures of an error, and the rule that limits them.

How each is measured says `autoresearch_common.metrics`, and `autoresearch_cuda.checks.accuracy` for tensors.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

# What a measure is an error of, in words, for messages.
WORDS = {
    "element": "error of an element",
    "row": "error of a row",
    "whole": "error of the whole result",
    "bias": "error of the mean",
}
NAMES = tuple(WORDS)
# A sum in float32 to which one term after the other is added is off by at most 0.8 sqrt(n) of these (n from 64 to
# 8,191; docs/decisions.md, 2026-11-29), and by n / 4 of these and hardly more where all terms are equal (n from 64 to
# 16,384).
HALF_UNIT = 2.0**-24
# An error that is far below any tolerance of a float32 kernel is not told apart from one of this size.
_FLOAT32_BIAS = 8 * HALF_UNIT


@dataclass(frozen=True)
class Errors:
    """The four measures of one result."""

    element: float
    row: float
    whole: float
    bias: float

    def widened(self, more: float) -> Errors:
        """Each measure larger by so much."""
        return Errors(**{name: value + more for name, value in asdict(self).items()})

    def times(self, factor: float) -> Errors:
        return Errors(**{name: value * factor for name, value in asdict(self).items()})

    def plain(self) -> dict[str, float]:
        return {name: round_up(value) for name, value in asdict(self).items()}


def coarsest(dtypes: Collection[str]) -> str:
    """The floating dtype that bounds how precise a result can be: a gradient is as coarse as any floating argument."""
    return next((dtype for dtype in ("bfloat16", "float16") if dtype in dtypes), "float32")


def rounding_rows(shape: Sequence[int], data: Sequence[int]) -> int:
    """How many rows round by themselves in a result of this shape: its own or, if these are fewer, those of the first
    floating argument, of shape `data`. The gradient of weights has many rows, and of one row of data one rounding."""
    return min(math.prod(shape[:-1]), math.prod(data[:-1]))


def worst(many: list[Errors]) -> Errors:
    """The largest of each measure."""
    return Errors(**{name: max(getattr(one, name) for one in many) for name in NAMES})


def median(many: list[Errors]) -> Errors:
    """The median of each measure."""
    return Errors(**{name: statistics.median(getattr(one, name) for one in many) for name in NAMES})


def allowed(baseline: Errors, factor: float, floor: float, rows: int) -> Errors:
    """The most that a kernel may be wrong: factor times that of the trusted implementations, or the floor.

    Within a row errors may have one cause, such as its sum; over many rows they average out. So the floors of `whole`
    and `bias` shrink with the number of rows, and over few rows, where the baseline's own error says little about what
    is usual, the factor grows. A bias of half the baseline's whole error is what another order of operations may
    bring. rows: how many rounded by themselves; see `rounding_rows`.
    """
    root = math.sqrt(max(1, rows))
    factor *= 1.0 + 4.0 / root
    floors = {
        "element": floor,
        "row": floor,
        "whole": floor * (0.5 + 0.5 * min(1.0, 4.0 / root)),
        "bias": max(min(floor, max(0.1 * floor, _FLOAT32_BIAS) * max(1.0, 40.0 / root)), 0.5 * baseline.whole),
    }
    return Errors(**{name: max(factor * getattr(baseline, name), floors[name]) for name in NAMES})


def excess(error: float, limit: float) -> float:
    """An error over what is allowed; infinite where none is."""
    return error / limit if limit > 0 else (math.inf if error else 0.0)


def excess_of(measured: Errors, limits: Errors) -> tuple[float, str]:
    """(error over what is allowed, of which measure), the largest."""
    ratios = {metric: excess(getattr(measured, metric), getattr(limits, metric)) for metric in NAMES}
    metric = max(NAMES, key=lambda name: ratios[name])
    return ratios[metric], metric


def of_a_sum(terms: float, *, equal: bool = False) -> float:
    """What a sum of so many terms may add to an error where it is made in float32 in the plainest way. equal: all terms
    may be one number, so that roundings go one way for long."""
    return HALF_UNIT * (math.sqrt(terms) + (terms / 4 if equal else 0.0)) if terms > 1.0 else 0.0


def round_up(value: float) -> float:
    """Four digits are plenty in a record; JSON knows no infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else 1e308
