"""From the raw block times of one process to one log-ratio."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from autoresearch_lab.errors import LabFailure
from autoresearch_trainer.jobs.training import Pair, ThroughputAnswer

LEAST_PAIRS = 6
CLOCK_TOLERANCE = 1.02


@dataclass(frozen=True)
class Throughput:
    """One process. log_ratio: median over pairs of ln(baseline seconds / candidate seconds).

    step_ms: median time of a step in the baseline's arm. disturbed: too few pairs were free of foreign load; the
    numbers are those of the least disturbed ones then.
    """

    seed: int
    log_ratio: float
    tokens_per_second: dict[str, float]
    step_ms: float
    pairs: int
    discarded: int
    foreign_share: float
    disturbed: bool

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": math.exp(self.log_ratio)}


def summarise(seed: int, answer: ThroughputAnswer, wall_seconds: float, block_steps: int) -> Throughput:
    """What a process measured as one number. wall_seconds: how long it ran by this process's clock; block_steps: steps
    of a block.

    Raises:
        LabFailure: no pair was timed, or the child's clock ran slower than the parent's.
    """
    pairs = answer.pairs
    if not pairs:
        raise LabFailure("race: no pair of blocks was timed")
    timed = sum(pair.baseline + pair.candidate for pair in pairs)
    if timed > wall_seconds * CLOCK_TOLERANCE or min(min(pair.baseline, pair.candidate) for pair in pairs) <= 0:
        raise LabFailure(f"race: {timed:.1f} s of blocks in {wall_seconds:.1f} s of wall time")
    used = [pair for pair in pairs if pair.quiet]
    disturbed = len(used) < min(LEAST_PAIRS, len(pairs))
    if disturbed:
        calmest = sorted(pairs, key=lambda pair: pair.foreign)
        used = calmest[: max(LEAST_PAIRS, len(pairs) // 2)]
    return Throughput(
        seed=seed,
        log_ratio=statistics.median(math.log(pair.baseline / pair.candidate) for pair in used),
        tokens_per_second=_rates(used, answer.block_tokens),
        step_ms=1e3 * statistics.median(pair.baseline for pair in used) / block_steps,
        pairs=len(used),
        discarded=len(pairs) - len(used),
        foreign_share=statistics.fmean(pair.foreign for pair in used),
        disturbed=disturbed,
    )


def _rates(pairs: list[Pair], block_tokens: int) -> dict[str, float]:
    return {
        "baseline": block_tokens / statistics.median(pair.baseline for pair in pairs),
        "candidate": block_tokens / statistics.median(pair.candidate for pair in pairs),
    }
