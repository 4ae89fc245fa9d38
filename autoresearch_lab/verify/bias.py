"""A common factor in an error: results that are all a little too small or too large, which rounding never makes them.

With d = result - ref over rows r,  b = sum_r <d_r, ref_r> / sum_r <ref_r, ref_r>:  b = -0.01 is "1 % small". Rounding
to nearest has no direction, so b of an honest kernel shrinks with the number of elements, and a factor that hides below
the tolerance of single elements shows. b is a ratio of sums, so by linearisation (Cochran, Sampling Techniques, 1977,
6.4)
    se(b)^2 = R / (R - 1)  sum_r (<d_r, ref_r> - b <ref_r, ref_r>)^2 / (sum_r <ref_r, ref_r>)^2.
The rows are the clusters, for within a row errors share causes; where there are columns enough, these are clusters too
(an argument's rounding is common to a column of a product), and the larger se counts. A few large rows carry no more
than few rows do: degrees of freedom are (sum w)^2 / sum w^2 - 1 with w_r = <ref_r, ref_r> (Kish, 1965).

Of an argument that is updated in place ref is the change: an update that is 1 % small hardly moves what is updated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

# A factor is sure beyond this many standard errors of a normal variable. For t variables the limit of the same
# probability counts, 2.9e-7 on one side: over 300 comparisons, each from both sides, 1.7e-4 for all together.
SURE = 5.0
# Fewer rows (or columns) than this count say nothing about their own spread.
LEAST_CLUSTERS = 16.0
# A kernel's factor may be this many times the largest of the trusted implementations, over all of them and all steps.
FACTOR = 1.5
# What rounding to nearest may add to b, in half-units of the last place (2^-9 in bfloat16, 2^-12 in float16): a result
# that depends on one bfloat16 number takes the roundings of 128 mantissas and no more, whose mean is of the order of
# 2^-9 / sqrt(128) = 2^-9 / 11. Measured: at most 1.5e-4 = 2^-9 / 13 (docs/decisions.md, 2026-11-28).
SHARE_OF_ROUNDING = 1.0 / 12.0
_HALF_UNIT = {"bfloat16": 2.0**-9, "float16": 2.0**-12}
# Of float32 the contract's own floor holds, up to here: a floor that is larger speaks of roundings to narrower types.
_FLOAT32_MOST = 2.0**-15


@dataclass(frozen=True)
class Bias:
    """value: b, without a unit; spread: its standard error; freedom: degrees of freedom of that."""

    value: float
    spread: float
    freedom: float

    @property
    def margin(self) -> float:
        """How far b may be from its mean by chance: t quantile times the standard error."""
        return critical(self.freedom) * self.spread


@dataclass(frozen=True)
class BiasLimit:
    """allowed: the largest |b| that an honest kernel may have; trusted: the largest of the trusted
    implementations, with its standard error."""

    allowed: float
    trusted: float


def critical(freedom: float) -> float:
    """The quantile of Student's t with the tail probability that SURE has for a normal variable."""
    return float(-stdtrit(max(1.0, freedom), ndtr(-SURE)))


def bias_of(result: np.ndarray, reference: np.ndarray, before: np.ndarray | None = None) -> Bias | None:
    """The common factor in the error of a finite float64 `result`; all arrays of one shape, rows along the last axis.

    before: what an argument updated in place held, so that the change is the reference. None where there are too few
    rows, or nothing that a factor could be relative to.
    """
    ref = _rows(reference if before is None else reference - before)
    wrong = _rows(result - reference)
    products, powers = np.einsum("ij,ij->i", wrong, ref), np.einsum("ij,ij->i", ref, ref)
    total = float(np.sum(powers))
    if total == 0.0 or not math.isfinite(total):
        return None
    value = float(np.sum(products)) / total
    by_row = _spread(products, powers, value)
    if by_row is None:
        return None
    by_column = _spread(np.einsum("ij,ij->j", wrong, ref), np.einsum("ij,ij->j", ref, ref), value)
    spread, freedom = max((by_row, by_column or by_row), key=lambda found: found[0] * critical(found[1]))
    return Bias(value, spread, freedom)


def limit(
    trusted: Iterable[Bias], dtype: str, float32_floor: float, reference: np.ndarray, before: np.ndarray | None = None
) -> BiasLimit:
    """The largest factor that an honest kernel may have: FACTOR times that of the trusted implementations (with one
    standard error), or what the dtype may bring.

    dtype: the coarsest of the result and, for a gradient, of the arguments. float32_floor: of the contract.
    """
    known = max((abs(bias.value) + bias.spread for bias in trusted), default=0.0)
    floor = max(SHARE_OF_ROUNDING * _HALF_UNIT.get(dtype, 0.0), min(float32_floor, _FLOAT32_MOST))
    if before is not None:
        # A factor in what was there before is one in the change, by their projection onto each other.
        change = reference - before
        power = float(np.sum(np.square(change)))
        floor *= max(1.0, abs(float(np.sum(reference * change))) / power) if power > 0 else 1.0
    return BiasLimit(max(FACTOR * known, floor), known)


def _spread(products: np.ndarray, powers: np.ndarray, value: float) -> tuple[float, float] | None:
    """(standard error, degrees of freedom) over clusters; None where these are too few."""
    total, squares = float(np.sum(powers)), float(np.sum(np.square(powers)))
    count = total**2 / squares if squares > 0 else 0.0
    if count < LEAST_CLUSTERS:
        return None
    residual = float(np.sum(np.square(products - value * powers)))
    return math.sqrt(residual * len(powers) / (len(powers) - 1)) / total, count - 1.0


def _rows(array: np.ndarray) -> np.ndarray:
    """(rows, last axis); single numbers of a vector are rows."""
    array = np.asarray(array, dtype=np.float64)
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(-1, 1)
