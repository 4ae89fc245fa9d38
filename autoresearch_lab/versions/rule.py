"""The rule of a trial: from pairs of trainings to BETTER, WORSE, SAME or UNDECIDED. Pure functions; docs/trial.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scipy.special import stdtrit

from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.errors import LabError
from autoresearch_lab.results.trial import VersionRule
from autoresearch_lab.statistics import Interval, split_alpha, t_interval

_AB = Settings()
LEAST_STEPS = 20


@dataclass(frozen=True)
class TrialRule:
    """The rule's numbers; margin, s.d. and its degrees of freedom are those that the A/B measured.

    looks: pairs of trainings at each look, one seed each. alpha: error of BETTER, and of WORSE, over all looks. steps:
    of side a. eval_tokens: of the validation split (None: the preset's). margin: bits per byte within which two
    versions are the SAME. clock_tolerance: log-ratio of the speeds up to which b's result at equal time is always
    computed from the slope alone, without trainings of another length (see `clock_for`). foreign_limit: share of the
    cores that other processes may use.
    """

    looks: tuple[int, ...] = (4, 6, 10, 16)
    alpha: float = 0.01
    steps: int = _AB.steps
    eval_tokens: int | None = None
    margin: float = _AB.margin
    sd_floor: float = _AB.sd_floor
    sd_df: int = _AB.sd_df
    clock_tolerance: float = 0.02
    foreign_limit: float = _AB.foreign_limit
    seed: int = _AB.seed

    def __post_init__(self) -> None:
        if self.steps < LEAST_STEPS:
            raise LabError(f"a trial trains at least {LEAST_STEPS} steps, not {self.steps}: the first 11 are not timed")

    @property
    def look_alpha(self) -> float:
        """One-sided error at each look (Bonferroni)."""
        return split_alpha(self.alpha, len(self.looks))[0]

    def recorded(self) -> VersionRule:
        return VersionRule(**{**asdict(self), "looks": list(self.looks)})


def equal_time(timed: float, a: float, log_ratio: float, clock: float, slope: float) -> float:
    """One pair's difference at equal time.

    timed: val_bpb of b after e^clock times the steps that equal tokens take; log_ratio: of the speeds in this pair. Its
    distance from `clock` is worth `slope` bits per byte each, so noise of the speeds widens the interval as it should.
    """
    return timed - a - slope * (log_ratio - clock)


def clock_for(log_ratios: Sequence[float], clock: float, rule: TrialRule) -> float:
    """The virtual clock for these speeds: `clock`, where their mean differs from it by less than is worth trainings of
    another length: `rule.clock_tolerance`, or twice the mean's own standard error. What the slope makes of such a
    difference is off by a fraction of what the speeds leave open anyway."""
    mean = statistics.fmean(log_ratios)
    error = statistics.stdev(log_ratios) / math.sqrt(len(log_ratios))
    return mean if abs(mean - clock) > max(rule.clock_tolerance, 2 * error) else clock


def interval(deltas: Sequence[float], rule: TrialRule) -> Interval:
    """Student's t over the pairs at the level of one look, and never narrower than the s.d. that paired trainings were
    measured to have makes it: a handful can look calmer than it is."""
    mean = statistics.fmean(deltas)
    least = float(stdtrit(rule.sd_df, 1 - rule.look_alpha)) * rule.sd_floor / math.sqrt(len(deltas))
    return t_interval(deltas, rule.look_alpha).hull(Interval(mean - least, mean, mean + least))


def verdict(found: Interval, rule: TrialRule) -> str:
    """BETTER | WORSE | SAME | UNDECIDED of side b, by the interval of its difference at equal time."""
    if found.high < 0:
        return "BETTER"
    if found.low > 0:
        return "WORSE"
    return "SAME" if found.largest() < rule.margin else "UNDECIDED"
