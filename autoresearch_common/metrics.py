"""How wrong a result is, measured against float64 in four ways, each relative to the scale of the reference.

An absolute tolerance lets zeros pass where outputs are tiny, and one for a sum alone lets a dropped row pass. So:
    element  the worst element,            |d| / (|ref| + scale of its row)
    row      the worst row (last axis),    rms(d) / scale of the row
    whole    everything together,          |d|_2 / |ref|_2
    bias     a common factor in the error, |<d, ref>| / <ref, ref>   (rounding averages out, a wrong factor does not)

The scale of a row is its own rms, plus a share of the typical row's so that a row of few elements that happens to
cancel is not the measure of everything. Where the problem itself is ill-conditioned, `condition` widens it: the change
of the reference, per unit of relative change of the inputs, that no algorithm in finite precision can avoid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from autoresearch_common.tolerance import Errors

FullRows = Literal["no rows", "rows of zeros", "all rows"]


@dataclass(frozen=True)
class Scale:
    """What the errors of one output are relative to. Shapes: elements (R, W), rows (R, 1); `power` = sum of squares."""

    elements: np.ndarray
    rows: np.ndarray
    power: float


def scale_of(
    reference: np.ndarray,
    condition: np.ndarray | None,
    dtype: str,
    least: float = 0.0,
    full: FullRows = "no rows",
) -> Scale:
    """Scale of a finite float64 reference. `condition`: same shape, its change per relative change of the inputs.
    `least`: what is smaller counts as this large. `full`: the rows that count at least as large as the typical one,
    not as a share of it, because what they sum cancels (`autoresearch_lab.verify.cancelled`)."""
    ref = as_rows(reference)
    width = ref.shape[1]
    rms = np.sqrt(np.mean(np.square(ref), axis=1, keepdims=True)) if width else np.zeros((len(ref), 1))
    present = rms[rms > 0]
    typical = float(np.median(present)) if present.size else 0.0
    size, power = rms, float(np.sum(np.square(ref)))
    if condition is not None:
        cond = as_rows(condition)
        size = np.maximum(size, np.sqrt(np.mean(np.square(cond), axis=1, keepdims=True)))
        power = max(power, float(np.sum(np.square(cond))))
    smallest = max(least, float(ml_dtypes.finfo(dtype).tiny))
    share = min(1.0, max(0.02, 1.0 / math.sqrt(max(1, width))))
    rows = size + share * typical + smallest
    if full != "no rows":
        rows = np.where((rms == 0.0) | (full == "all rows"), np.maximum(rows, typical), rows)
    return Scale(np.abs(ref) + rows, rows, max(power, ref.size * smallest**2))


def errors(result: np.ndarray, reference: np.ndarray, scale: Scale) -> Errors:
    """The measures of `result` (same shape; finite wherever they are compared)."""
    ref = as_rows(reference)
    difference = as_rows(result) - ref
    if difference.size == 0:
        return Errors(0.0, 0.0, 0.0, 0.0)
    row = np.sqrt(np.mean(np.square(difference), axis=1, keepdims=True)) / scale.rows
    return Errors(
        element=float(np.max(np.abs(difference) / scale.elements)),
        row=float(np.max(row)),
        whole=math.sqrt(float(np.sum(np.square(difference))) / scale.power),
        bias=abs(float(np.sum(difference * ref))) / scale.power,
    )


def as_rows(array: np.ndarray) -> np.ndarray:
    """All leading axes flattened into one: (rows, last axis). A single number is one row of one."""
    array = np.asarray(array)
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
