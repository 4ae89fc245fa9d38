"""Gradients that are zero because what they sum cancels: their own size says nothing about what their error may be.

The gradient of the queries where there is one key only is such a sum, and so is that of a norm over one element. By
dimensions a gradient of L = <c, y> for an argument a of n_a elements is as large as
    size = rms(c) rms(y) / rms(a)  sqrt(n_y / n_a),
which it is exactly, up to chance, where y is linear in a; an error is then relative to that. Where an argument, a
result or a cotangent is zero itself, zero is what it must be, to the last bit.

Single rows cancel, too: that of a query which sees one key. What they sum is as large as in other rows, so a row of
zeros counts as large as the typical one. And where all rows of another argument are one, each is rounded alike: the
rounding of a sum over them is as large as the terms are, however near to zero the sum comes, so every row does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoresearch_common.arrays import is_float
from autoresearch_lab.verify.cases import Contents, widen

# What the oracle's float64 leaves of a sum that cancels.
RESIDUE = 2.0**-40


def summed_size(contents: Contents, outputs: Sequence[np.ndarray], argument: str, gradient: np.ndarray) -> float:
    """The size of what was summed to a `gradient` that cancelled as a whole, in its own unit; 0 for any other, and for
    one that is zero because something that it is a product of is."""
    floating = [widen(array) for array in contents.arrays.values() if is_float(array) and array.size]
    if contents.cotangents is None or not floating or not gradient.size:
        return 0.0
    sizes = [_rms(array) for array in floating]
    own = _rms(widen(contents.arrays[argument]))
    total = sum(
        _rms(widen(cotangent)) * _rms(output) * math.sqrt(output.size / gradient.size)
        for cotangent, output in zip(contents.cotangents, outputs, strict=True)
        if output.size
    )
    if not all(0.0 < size < math.inf for size in (*sizes, own, total)):
        return 0.0
    size = total / own
    return size if _rms(gradient) <= RESIDUE * size else 0.0


def _rms(array: np.ndarray) -> float:
    """Root mean square of what is finite; 0 where nothing is."""
    values = np.asarray(array, dtype=np.float64)
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
