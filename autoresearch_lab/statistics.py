"""Statistics of paired measurements: log-ratios, intervals over processes, block bootstrap, sequential looks.

Everything works on natural logarithms of ratios, where "a is r times as fast as b" and "b is r times as fast as a" are
mirror images and percentages add up. `docs/statistics.md` says why these methods and what they promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A point estimate with the ends of its interval, all in one unit (here mostly log-ratios)."""

    low: float
    point: float
    high: float

    def ratio(self) -> Interval:
        """The same interval of a log-ratio as a ratio."""
        return Interval(*(_bounded_exp(value) for value in (self.low, self.point, self.high)))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both; the point stays this one's."""
        return Interval(min(self.low, other.low), self.point, max(self.high, other.high))

    def largest(self) -> float:
        """The end that is farther from zero, as a positive number."""
        return max(abs(self.low), abs(self.high))

    def plain(self) -> list[float]:
        """[low, point, high], as records hold it."""
        return [self.low, self.point, self.high]


def _bounded_exp(value: float) -> float:
    """e^value kept finite: records hold no infinities, and a ratio of 1e300 says "unbounded" as well."""
    return math.exp(min(max(value, -690.0), 690.0))


def paired_log_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """log(numerator / denominator), element by element; positive where the denominator is the smaller time.

    Args: two arrays of one shape, positive times in one unit.
    Raises:
        ValueError: shapes differ, or a value is not positive and finite.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if top.shape != bottom.shape:
        raise ValueError(f"pairs need one shape, got {top.shape} and {bottom.shape}")
    if not (np.all(np.isfinite(top) & np.isfinite(bottom)) and np.all(top > 0) and np.all(bottom > 0)):
        raise ValueError("times must be positive and finite")
    return np.log(top) - np.log(bottom)


def t_interval(values: Sequence[float] | np.ndarray, alpha: float, least_sd: float = 0.0) -> Interval:
    """Mean of independent values with a one-sided bound at level `alpha` on either side (Student's t).

    `least_sd` keeps a standard deviation that came out small by luck from making the interval narrow: with three values
    that happens often. One value alone has an unbounded interval.

    Raises:
        ValueError: no values, or alpha outside (0, 0.5).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("no values")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), got {alpha}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(-math.inf, mean, math.inf)
    deviation = max(float(sample.std(ddof=1)), least_sd)
    half = float(stdtrit(sample.size - 1, 1.0 - alpha)) * deviation / math.sqrt(sample.size)
    return Interval(mean - half, mean, mean + half)


def t_upper(values: Sequence[float] | np.ndarray, alpha: float, least_sd: float = 0.0) -> float:
    """Upper bound of the mean at one-sided level `alpha`."""
    return t_interval(values, alpha, least_sd).high


def block_length(count: int) -> int:
    """Length of the blocks for a series of `count` values: the usual n^(1/3), at least a pair."""
    return min(count, max(2, round(count ** (1.0 / 3.0))))


def resample_blocks(
    series: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES, length: int | None = None
) -> np.ndarray:
    """Circular block bootstrap (Politis and Romano, 1992): resampled copies of a series of dependent values.

    Whole blocks of neighbours are drawn, so that drift and slow disturbances inside a block stay together.
    Returns (resamples, len(series)).
    """
    values = np.asarray(series, dtype=np.float64)
    count = values.size
    length = length or block_length(count)
    blocks = -(-count // length)
    starts = rng.integers(count, size=(resamples, blocks, 1))
    index = (starts + np.arange(length)) % count
    return values[index.reshape(resamples, -1)[:, :count]]


def bootstrap_interval(
    groups: Sequence[np.ndarray], alpha: float, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Interval:
    """Mean over groups of each group's median, with percentile bounds at one-sided level `alpha` on either side.

    A group is the series of one process in the order of measurement; groups are kept, blocks inside them are drawn.
    The spread *between* groups is not in this interval (see `t_interval`).

    Raises:
        ValueError: no groups, or an empty one.
    """
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("every group needs values")
    point = float(np.mean([np.median(np.asarray(group, dtype=np.float64)) for group in groups]))
    drawn = np.mean([np.median(resample_blocks(group, rng, resamples), axis=1) for group in groups], axis=0)
    low, high = np.quantile(drawn, [alpha, 1.0 - alpha])
    return Interval(min(float(low), point), point, max(float(high), point))


def grouped_interval(
    groups: Sequence[np.ndarray],
    alpha: float,
    rng: np.random.Generator,
    *,
    least_sd: float = 0.0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the mean of the groups' medians that covers both sources of error: the wider end counts.

    Noise inside a process: block bootstrap of its rounds. Levels that differ between processes: t over their medians.
    """
    medians = [float(np.median(group)) for group in groups]
    return t_interval(medians, alpha, least_sd).hull(bootstrap_interval(groups, alpha, rng, resamples))


def split_alpha(total: float, looks: int) -> tuple[float, ...]:
    """Equal shares of an error rate for a fixed number of looks at growing data (Bonferroni): at each look alone the
    chance of a false verdict is at most its share, so at all of them together it is at most `total`."""
    if looks < 1:
        raise ValueError("at least one look")
    return (total / looks,) * looks
