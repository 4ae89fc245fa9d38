"""Two things in turns, by the rule of the bench: looks, intervals, and the four verdicts."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from autoresearch_lab.bench.rule import AMBIGUOUS, FASTER, SLOWER, Finding, Rule, decide, find, looks_within
from autoresearch_lab.bench.samples import BASELINE, CONTROL, log_ratios
from autoresearch_lab.results.bench import is_busy

FAIL = "FAIL"
# Of the three that are timed; before it the base and the base once more, as in a bench.
HEAD = 2


@dataclass(frozen=True)
class Compared:
    """How head fares beside base. verdict: FASTER, SLOWER, SAME, AMBIGUOUS, or FAIL where head is wrong or cannot be
    run. ratio: time of base / time of head, above 1 where head is faster, with its interval; base_seconds and
    head_seconds: medians; foreign_load: share of the machine that other processes used, None = unknown."""

    name: str
    verdict: str
    reason: str
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    base_seconds: float | None = None
    head_seconds: float | None = None
    foreign_load: float | None = None

    @property
    def passes(self) -> bool:
        """Whether a gate lets it through: what cannot be told is no reason to stop anybody."""
        return self.verdict not in (SLOWER, FAIL)

    def plain(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Turns:
    """What one look's unit, a process or a round of commands, took: seconds of (round, [base, base again, head])."""

    seconds: np.ndarray
    foreign_load: float | None = None


def race(name: str, take: Callable[[int], Turns], rule: Rule, budget_seconds: float, seed: int | None) -> Compared:
    """Take turns until the rule decides or the budget is used up; the first look is always taken.

    take: measures once more, given a seed.
    """
    rng = np.random.default_rng(secrets.randbits(31) if seed is None else seed)
    taken: list[Turns] = []
    began = time.monotonic()

    def measure(wanted: int) -> None:
        taken.append(take(int(rng.integers(1 << 31))))

    for look in looks_within(rule, budget_seconds, measure, lambda: time.monotonic() - began):
        found = _look(taken, rule, rule.alpha(look), rng)
        verdict, reason = decide(found, rule)
        if verdict != AMBIGUOUS:
            break
    loads = [turns.foreign_load for turns in taken if turns.foreign_load is not None]
    load = float(np.median(loads)) if loads else None
    ratio = found.interval.ratio()
    middle = np.median(np.concatenate([turns.seconds for turns in taken]), axis=0)
    ends, seconds = (ratio.low, ratio.high), (float(middle[BASELINE]), float(middle[HEAD]))
    return believed(Compared(name, verdict, reason, ratio.point, ends, *seconds, load), rule)


def _look(taken: Sequence[Turns], rule: Rule, alpha: float, rng: np.random.Generator) -> Finding:
    groups = [log_ratios(turns.seconds, BASELINE, HEAD) for turns in taken]
    control = [log_ratios(turns.seconds, BASELINE, CONTROL) for turns in taken]
    if all(len(rounds) == 1 for rounds in control):
        control = [np.concatenate(control)]  # of single rounds nothing could be drawn anew
    return find(groups, control, alpha, rule, rng)


def believed(compared: Compared, rule: Rule, *, disturbed: bool = True) -> Compared:
    """The same, with the load of others said where there was much; and AMBIGUOUS, unless the difference is a clear one,
    where it was so much that it may have favoured either. disturbed: whether that load touched what was timed."""
    load, interval = compared.foreign_load, compared.interval
    if load is None or not is_busy(load) or interval is None or compared.ratio is None:
        return compared
    reason = f"{compared.reason}; other processes used {load:.0%} of the machine"
    clear = interval[0] > rule.clear or interval[1] < 1 / rule.clear
    if load <= rule.crowded or not disturbed or clear or compared.verdict not in (FASTER, SLOWER):
        return replace(compared, reason=reason)
    far = math.expm1(abs(math.log(compared.ratio)))
    return replace(
        compared, verdict=AMBIGUOUS, reason=f"{reason}, too much for a difference of {far:.0%}: run it again alone"
    )
