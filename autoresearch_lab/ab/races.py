"""From the raw block times of a race to one log-ratio per process."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from autoresearch_lab.errors import LabFailure

LEAST_PAIRS = 6
CLOCK_TOLERANCE = 1.02


@dataclass(frozen=True)
class Race:
    """One process. log_ratio: median over pairs of ln(baseline seconds / candidate seconds).

    disturbed: too few pairs were free of foreign load; the numbers are those of the least disturbed ones then.
    """

    seed: int
    log_ratio: float
    tokens_per_second: dict[str, float]
    pairs: int
    discarded: int
    foreign_share: float
    disturbed: bool

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": math.exp(self.log_ratio)}


def summarise(seed: int, result: dict[str, Any]) -> Race:
    """The race of a process as one number. `result` is what the job `race` returned, with "wall_seconds" added.

    Raises:
        LabFailure: no pair was timed, or the child's clock ran slower than the parent's.
    """
    pairs = result["pairs"]
    if not pairs:
        raise LabFailure("race: no pair of blocks was timed")
    timed = sum(pair["baseline"] + pair["candidate"] for pair in pairs)
    if timed > result["wall_seconds"] * CLOCK_TOLERANCE or min(p[arm] for p in pairs for arm in _ARMS) <= 0:
        raise LabFailure(f"race: {timed:.1f} s of blocks in {result['wall_seconds']:.1f} s of wall time")
    used = [pair for pair in pairs if pair["quiet"]]
    disturbed = len(used) < min(LEAST_PAIRS, len(pairs))
    if disturbed:
        calmest = sorted(pairs, key=lambda pair: pair["foreign"])
        used = calmest[: max(LEAST_PAIRS, len(pairs) // 2)]
    rates = {arm: result["block_tokens"] / statistics.median(pair[arm] for pair in used) for arm in _ARMS}
    return Race(
        seed=seed,
        log_ratio=statistics.median(math.log(pair["baseline"] / pair["candidate"]) for pair in used),
        tokens_per_second=rates,
        pairs=len(used),
        discarded=len(pairs) - len(used),
        foreign_share=statistics.fmean(pair["foreign"] for pair in used),
        disturbed=disturbed,
    )


_ARMS = ("baseline", "candidate")
