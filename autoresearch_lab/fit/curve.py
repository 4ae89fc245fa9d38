"""What a shape comes to after more tokens than it was trained on, and how sure that is.

A shape's val_bpb after a whole training on D tokens, warm-down included, is taken for

    L(D) = E + A (D / D0)^-b

the law of Hoffmann et al. (2022, "Training Compute-Optimal Large Language Models", equation 2) at a fixed model. E and
A belong to the shape, b to the data and the schedule, so all shapes share it. E and A have Gaussian priors around what
all shapes have in common, which says what little a shape with one training tells; b is averaged over by its likelihood.
The horizon is so many seconds at the shape's own tokens per second, so a busy machine makes no curve wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Of val_bpb with another seed, as measured at cpu-nano (docs/trial.md).
SEED_SD = 0.0065
# Standard deviations of the priors in bits per byte: what all shapes share, and what is a shape's own.
LEVEL_SHARED, LEVEL_OWN, FALL_SHARED, FALL_OWN = 2.0, 1.0, 2.0, 0.2
EXPONENTS = np.linspace(0.05, 0.6, 12)
SIGMAS = 1.96


class Point(NamedTuple):
    """A shape after so many tokens."""

    shape: str
    tokens: float


@dataclass(frozen=True)
class Forecast:
    """mean, covariance: of val_bpb at the points that were asked for; exponent: the mean of b."""

    mean: np.ndarray
    covariance: np.ndarray
    exponent: float

    def bounds(self, index: int) -> tuple[float, float, float]:
        """(low, mean, high) at 95 %."""
        return _bounds(float(self.mean[index]), float(self.covariance[index, index]))

    def difference(self, one: int, other: int) -> tuple[float, float, float]:
        """(low, mean, high) of one less the other."""
        c = self.covariance
        spread = c[one, one] + c[other, other] - 2 * c[one, other]
        return _bounds(float(self.mean[one] - self.mean[other]), float(spread))


def _bounds(mean: float, variance: float) -> tuple[float, float, float]:
    half = SIGMAS * float(np.sqrt(max(variance, 0.0)))
    return mean - half, mean, mean + half


def forecast(seen: Sequence[tuple[Point, float]], wanted: Sequence[Point], noise: float = SEED_SD) -> Forecast:
    """val_bpb at `wanted` from that of finished trainings. noise: standard deviation of one training's."""
    points = [point for point, _ in seen]
    values = np.array([bpb for _, bpb in seen])
    centre = float(values.mean())
    scale = min(point.tokens for point in points)
    weights, means, spreads = [], [], []
    for exponent in EXPONENTS:
        known = _covariance(points, points, scale, exponent) + noise**2 * np.eye(len(points))
        between = _covariance(wanted, points, scale, exponent)
        solved = np.linalg.solve(known, np.column_stack([values - centre, between.T]))
        weights.append(-0.5 * (float((values - centre) @ solved[:, 0]) + np.linalg.slogdet(known)[1]))
        means.append(centre + between @ solved[:, 0])
        spreads.append(_covariance(wanted, wanted, scale, exponent) - between @ solved[:, 1:])
    share = np.exp(np.array(weights) - max(weights))
    share /= share.sum()
    mean = share @ np.array(means)
    apart = np.array(means) - mean
    covariance = np.tensordot(share, np.array(spreads), 1) + (apart * share[:, None]).T @ apart
    return Forecast(mean, covariance, float(share @ EXPONENTS))


def _covariance(one: Sequence[Point], other: Sequence[Point], scale: float, exponent: float) -> np.ndarray:
    same = np.array([[a.shape == b.shape for b in other] for a in one], dtype=float)
    fall = np.outer(*(np.array([(point.tokens / scale) ** -exponent for point in points]) for points in (one, other)))
    return LEVEL_SHARED**2 + LEVEL_OWN**2 * same + fall * (FALL_SHARED**2 + FALL_OWN**2 * same)
