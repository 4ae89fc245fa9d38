"""The rule: from paired times to FASTER, SLOWER, SAME or AMBIGUOUS. Pure functions; see `docs/statistics.md`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autoresearch_lab.statistics import RESAMPLES, Interval, bootstrap_interval, grouped_interval, split_alpha

FASTER, SLOWER, SAME, AMBIGUOUS = "FASTER", "SLOWER", "SAME", "AMBIGUOUS"
# What a bench may take that is not told otherwise; what is clear after the first look takes a third of it.
BUDGET_SECONDS = 60.0


@dataclass(frozen=True)
class Rule:
    """What is fixed before anything is measured; ratios are times > 1, shares lie between 0 and 1."""

    # After how many fresh processes the data are looked at.
    looks: tuple[int, ...] = (4, 8, 16)
    # Chance of a wrong FASTER over all looks together, and of a wrong SLOWER.
    error: float = 0.01
    # Least speed-up that counts.
    margin: float = 1.01
    # The spread of log-ratios between processes is never taken to be less.
    least_sd: float = 0.005
    # Level on either side of the interval of the baseline against itself.
    control_error: float = 0.05
    # Largest band in which "the same" still says anything.
    coarsest: float = 1.03
    # A single workload that is surely this much slower forbids FASTER.
    regression: float = 1.05
    # So does a candidate that surely slows what runs after it by this: it spoils the baseline's times, and pays with
    # others' time. Not where the win is so many times as large (both as logarithms): then it is none of that.
    disturbance: float = 1.02
    outweighed: float = 10.0
    # With this share of the machine in use by others, and this share of samples without one undisturbed call, a win has
    # to be a clear one: threads that wait at barriers for others that were put aside make kernels with few parallel
    # regions look better.
    crowded: float = 0.5
    unclean: float = 0.25
    clear: float = 1.5
    # So do calls interrupted that much more often (beyond twice the baseline's share): more threads than cores.
    interrupted: float = 0.2
    resamples: int = RESAMPLES

    def alpha(self, look: int) -> float:
        """One-sided level of look number `look` (from 0)."""
        return split_alpha(self.error, len(self.looks))[look]

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "looks": list(self.looks)}


def looks_within(rule: Rule, budget: float, take: Callable[[int], object], used: Callable[[], float]) -> Iterator[int]:
    """Measure, and yield the number of each look (from 0) when it is due; whoever has decided asks for no more.

    A look that the budget no longer allows in full is taken with what there is, once: so there are never more looks
    than the rule has, and each is taken at its own level. The first is always taken in full.

    take: measures once more, given how many there are to be at this look; used: seconds of the budget so far.
    """
    taken, longest = 0, 0.0
    for look, wanted in enumerate(rule.looks):
        while taken < wanted:
            before = used()
            if look > 0 and before + longest > budget:
                break
            take(wanted)
            taken += 1
            longest = max(longest, used() - before)
        last = used() + longest > budget
        yield look
        if last:
            return


@dataclass(frozen=True)
class Finding:
    """What the data say at one look. Log-ratios log(baseline time / candidate time); > 0 = the candidate is faster.

    control: the baseline against itself; floor: how far that may be from zero; threshold: what a win has to exceed.
    """

    interval: Interval
    control: Interval
    floor: float
    threshold: float


def find(
    groups: Sequence[np.ndarray], control: Sequence[np.ndarray], alpha: float, rule: Rule, rng: np.random.Generator
) -> Finding:
    """Weigh the rounds of every process: `groups` of baseline against candidate, `control` of baseline against itself.

    The floor is the far end of the control's bootstrap interval over all rounds: what the procedure shows where there
    is nothing to show. Noise is in the candidate's own interval already; so as not to count it twice in full, this one
    has the ordinary level of 5 % on either side, and the spread between processes stays out of it.
    """
    interval = grouped_interval(groups, alpha, rng, least_sd=rule.least_sd, resamples=rule.resamples)
    same = bootstrap_interval(control, rule.control_error, rng, rule.resamples)
    floor = same.largest()
    return Finding(interval, same, floor, max(floor, math.log(rule.margin)))


def decide(finding: Finding, rule: Rule, objections: Sequence[str] = ()) -> tuple[str, str]:
    """(verdict, reason in one line). `objections` are reasons why a win cannot be believed or is not one everywhere."""
    interval, band = finding.interval, finding.threshold
    shown = interval.ratio()
    text = f"x{shown.point:.3f} [{shown.low:.3f}, {shown.high:.3f}], needed beyond x{math.exp(band):.3f}"
    if interval.low > band:
        if objections:
            return AMBIGUOUS, f"{text}, but {'; '.join(objections)}"
        return FASTER, text
    if interval.high < -band:
        return SLOWER, text
    if -band <= interval.low and interval.high <= band and band <= math.log(rule.coarsest):
        return SAME, text
    why = "the machine is too noisy to tell"
    if interval.high > band:
        why = "the interval reaches below that"
    elif interval.low < -band:
        why = f"no gain shows, and the interval reaches below x{math.exp(-band):.3f}, so it may be slower"
    return AMBIGUOUS, f"{text}: {why}"
