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

With |ref| in the products' place of ref, b says how far results lie to one side, up or down whatever their sign: what
is rounded down, or shifted, has such a b and no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
# In a part of a result, a channel or a head, fewer roundings meet: there it may be a quarter of a half-unit.
SHARE_OF_A_PART = 1.0 / 4.0
# Elements of a result from which its parts are known well enough, and of a long axis the fewest places.
ENOUGH, FEWEST = 1 << 18, 128
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


def bias_of(
    result: np.ndarray, reference: np.ndarray, before: np.ndarray | None = None, *, sideways: bool = False
) -> Bias | None:
    """The common factor in the error of a finite float64 `result`; all arrays of one shape, rows along the last axis.

    before: what an argument updated in place held, so that the change is the reference. sideways: how far it lies to
    one side instead. None where there are too few rows, or nothing that a factor could be relative to.
    """
    ref = _rows(reference if before is None else reference - before)
    ref = np.abs(ref) if sideways else ref
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


@dataclass(frozen=True)
class Part:
    """A part of a result, the elements with `place` along `axis`, and the factor in its error."""

    axis: int
    place: int
    bias: Bias


def parts_of(result: np.ndarray, reference: np.ndarray, axes: Iterable[int] | None = None) -> list[Part]:
    """Of each axis the part with the largest factor that is no chance: a channel, a head, a sequence of the batch.

    The rows of a part are its clusters, along the last axis its elements. Axes whose parts have too few are left out.
    Of a large result every so many-th place along its longest leading axis is looked at: enough to tell.
    """
    reference, result, step, thinned = _thinned(reference, result)
    ref, wrong = _rows(reference), _rows(result - reference)
    lead, found = reference.shape[:-1], []
    for axis in range(reference.ndim) if axes is None else axes:
        if axis == reference.ndim - 1:
            products, powers = wrong * ref, np.square(ref)
        else:
            products, powers = (
                np.moveaxis(np.einsum("ij,ij->i", one, ref).reshape(lead), axis, -1).reshape(-1, lead[axis])
                for one in (wrong, ref)
            )
        part = _worst_part(axis, products, powers)
        if part is not None:
            found.append(replace(part, place=part.place * step) if axis == thinned else part)
    return found


def _thinned(reference: np.ndarray, result: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(reference, result, step, axis): every step-th place along the longest leading axis."""
    axis = int(np.argmax(reference.shape[:-1])) if reference.ndim > 1 else 0
    most = max(1, reference.shape[axis] // FEWEST) if reference.ndim > 1 else 1
    step = min(most, max(1, reference.size // ENOUGH))
    chosen = (slice(None),) * axis + (slice(None, None, step),)
    return np.asarray(reference[chosen], dtype=np.float64), np.asarray(result[chosen], dtype=np.float64), step, axis


def _worst_part(axis: int, products: np.ndarray, powers: np.ndarray) -> Part | None:
    """Of parts in columns, their clusters in rows."""
    count = len(products)
    total, squares = powers.sum(0), np.einsum("ij,ij->j", powers, powers)
    with np.errstate(all="ignore"):
        value, clusters = products.sum(0) / total, np.square(total) / squares
        residual = (
            np.einsum("ij,ij->j", products, products)
            - 2 * value * np.einsum("ij,ij->j", products, powers)
            + np.square(value) * squares
        )
        spread = np.sqrt(np.maximum(residual, 0.0) * count / max(1, count - 1)) / total
        sure = np.abs(value) - critical(LEAST_CLUSTERS) * spread
    sure = np.where(np.isfinite(sure) & (clusters >= LEAST_CLUSTERS), sure, -np.inf)
    if not sure.size or sure.max() == -np.inf:
        return None
    place = int(np.argmax(sure))
    return Part(axis, place, Bias(float(value[place]), float(spread[place]), float(clusters[place]) - 1.0))


def limit(
    trusted: Iterable[Bias], dtype: str, float32_floor: float, reference: np.ndarray, before: np.ndarray | None = None
) -> BiasLimit:
    """The largest factor that an honest kernel may have: FACTOR times that of the trusted implementations (with one
    standard error), or what the dtype may bring.

    dtype: the coarsest of the result and, for a gradient, of the arguments. float32_floor: of the contract.
    """
    floor = _floor(SHARE_OF_ROUNDING, dtype, float32_floor)
    if before is not None:
        # A factor in what was there before is one in the change, by their projection onto each other.
        change = reference - before
        power = float(np.sum(np.square(change)))
        floor *= max(1.0, abs(float(np.sum(reference * change))) / power) if power > 0 else 1.0
    return _above(floor, trusted)


def part_limit(trusted: Iterable[Bias], dtype: str, float32_floor: float) -> BiasLimit:
    """The same for a part of a result."""
    return _above(_floor(SHARE_OF_A_PART, dtype, 2 * float32_floor), trusted)


def _floor(share: float, dtype: str, float32_floor: float) -> float:
    """What the dtype may bring. share: of a half-unit of a narrow one."""
    return max(share * _HALF_UNIT.get(dtype, 0.0), min(float32_floor, _FLOAT32_MOST))


def _above(floor: float, trusted: Iterable[Bias]) -> BiasLimit:
    known = max((abs(bias.value) + bias.spread for bias in trusted), default=0.0)
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
