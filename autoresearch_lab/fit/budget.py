"""How a budget of minutes is divided: how many shapes, how long each trains, and how many pairs compare the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoresearch_lab.results.fit import FitStage

# Lengths of the three stages and of the pairs, in units of the first; of a stage's shapes about half come through.
LENGTHS = (1.0, 2.5, 6.0)
LEAST_SECONDS, MOST_SECONDS = 3, 20  # of the first stage
LEAST_SHAPES, MOST_SHAPES, SHAPES_PER_MINUTE = 4, 12, 0.6
LEAST_PAIRS, PAIRS, MOST_PAIRS, MANY_SECONDS = 3, 4, 6, 600
FULL_SHAPES = 24
# Without any of one's own: seconds that compiling another shape takes.
COMPILE_SECONDS = 35.0


@dataclass(frozen=True)
class Costs:
    """Seconds beside the training itself: of any process, and of compiling a shape for the first time."""

    start: float
    compile: float


@dataclass(frozen=True)
class FitBudget:
    """stages: what is trained; pairs: how many compare the best shape with the default, each training of pair_seconds;
    seconds: that all of it takes."""

    stages: tuple[FitStage, ...]
    pairs: int
    pair_seconds: int
    seconds: float


def divide(seconds: float | None, tried: int, costs: Costs, compiles: bool) -> FitBudget:
    """seconds: None = everything at full length. tried: shapes that there are. compiles: train.py does by itself; then
    the first stage is not compiled, since that would take longer than training there."""
    minutes = math.inf if seconds is None else seconds / 60
    wanted = FULL_SHAPES if seconds is None else min(MOST_SHAPES, max(LEAST_SHAPES, round(SHAPES_PER_MINUTE * minutes)))
    first = min(tried, wanted)
    counts = (first, min(first, max(2, math.ceil(first / 2))), min(first, max(2, math.ceil(first / 4))))
    pairs = PAIRS if 60 * minutes >= MANY_SECONDS else LEAST_PAIRS
    trainings = (*counts, 2 * pairs)
    # The default is compiled already; of the pairs' models some are evaluated on every rung.
    fixed = (sum(trainings) + 4) * costs.start + (counts[1] - 1) * costs.compile
    unit = MOST_SECONDS
    if seconds is not None:
        growth = sum(count * length for count, length in zip(trainings, (*LENGTHS, LENGTHS[-1]), strict=True))
        unit = max(LEAST_SECONDS, min(MOST_SECONDS, math.floor((seconds - fixed) / growth)))
    lengths = [round(unit * length) for length in (*LENGTHS, LENGTHS[-1])]
    stages = tuple(
        FitStage(shapes=count, seconds=lengths[number], automatic=number > 0 or not compiles)
        for number, count in enumerate(counts)
    )
    total = fixed + sum(count * length for count, length in zip(trainings, lengths, strict=True))
    return FitBudget(stages, pairs, lengths[-1], total)
