"""Negative controls: wrong results made on purpose, which the comparisons must tell from right ones.

They need no kernel and no process. The oracle's results, rounded to their dtype, stand in for the baseline; a *fault*
is planted into a copy of them, and every fault has to be noticed. A target whose faults pass has inputs or tolerances
that prove nothing, and is not admitted to the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from autoresearch_common.arrays import storage
from autoresearch_lab.catalog import Target
from autoresearch_lab.verify.cases import Case, widen
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.exchange import Answers, shadow_number
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.verify.reference import Expected, References
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs.calls import ResultName

# What rounding to the next lower precision means.
LOWER = {
    "float32": ml_dtypes.bfloat16,
    "bfloat16": ml_dtypes.float8_e4m3fn,
    "float16": ml_dtypes.float8_e4m3fn,
}


@dataclass(frozen=True)
class Fault:
    """A way of being wrong. `plant(value, case, step)` gives the faulty float64 (or boolean) result, or None where it
    would be no fault; `results`: the kind of results that it is planted into, one at a time."""

    name: str
    results: Literal["output", "gradient"]
    plant: Callable[[np.ndarray, Expected, Case, int], np.ndarray | None]


def controls(target: Target, workloads: WorkloadSet, seed: int) -> dict[str, bool]:
    """{fault planted into a result: whether it was noticed}, and "none": whether right results pass."""
    cases = Planner(target, workloads, np.random.default_rng(seed)).cases()
    captured = [case for case in cases if case.group == "accuracy"]
    references = References(target.oracle)
    right = _answers(captured, references)
    found = {"none": not _noticed(target, captured, right, right, references)}
    for name in references.of(captured[0], captured[0].steps[0]):
        for fault in FAULTS:
            if name.kind == fault.results:
                faulty, planted = _with_fault(captured, right, references, fault, name)
                if planted:
                    label = f"{fault.name} in {name}"
                    found[label] = _noticed(target, captured, faulty, right, references)
    return found


def _answers(cases: list[Case], references: References) -> Answers:
    """The oracle's results, rounded, as a process would have sent them: shadows included."""
    answers = Answers()
    for case in cases:
        for number, step in enumerate(case.steps):
            for name, expected in references.of(case, step).items():
                answers.arrays[name.key(case.id, number)] = _stored(expected.value, expected.dtype)
            for place, contents in enumerate(step.shadows):
                shadow = shadow_number(case, number, place)
                for name, expected in references.shadow(case, contents).items():
                    answers.arrays[name.key(case.id, shadow)] = _stored(expected.value, expected.dtype)
    return answers


def _with_fault(
    cases: list[Case], right: Answers, references: References, fault: Fault, name: ResultName
) -> tuple[Answers, bool]:
    """A copy of the right answers with one fault in one result of every step, and whether there was a place for it."""
    arrays, planted = dict(right.arrays), False
    for case in cases:
        for number, step in enumerate(case.steps):
            expected = references.of(case, step).get(name)
            wrong = None if expected is None else fault.plant(expected.value, expected, case, number)
            if expected is not None and wrong is not None:
                arrays[name.key(case.id, number)] = _stored(wrong, expected.dtype)
                planted = True
    return Answers(right.answer, arrays), planted


def _noticed(target: Target, cases: list[Case], candidate: Answers, baseline: Answers, references: References) -> bool:
    evidence = Comparisons(target, cases, candidate, baseline, references)
    return any(not comparison.passed for comparison in evidence.everything)


def _stored(value: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(storage(dtype))


def _zeros(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray:
    return np.zeros_like(value)


def _identity(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray | None:
    """The first argument of the result's shape; where the result is that argument updated, this is "not updated"."""
    for array in case.steps[step].contents.arrays.values():
        if array.shape == value.shape and array.dtype == storage(expected.dtype) and value.size > 1:
            same = widen(array)
            return None if np.array_equal(_stored(same, expected.dtype), _stored(value, expected.dtype)) else same
    return None


def _tile_dropped(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray | None:
    """The last sixteenth of the elements is zero (or False)."""
    if value.size < 16:
        return None
    result = value.copy()
    result.reshape(-1)[-(value.size // 16) :] = 0
    return None if np.array_equal(result, value) else result


def _row_shifted(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray | None:
    """The last row is its neighbour's."""
    rows = value.reshape(-1, value.shape[-1]).copy() if value.ndim > 1 else None
    if rows is None or len(rows) < 2 or np.array_equal(rows[-1], rows[-2]):
        return None
    rows[-1] = rows[-2]
    return rows.reshape(value.shape)


def _lower_precision(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray | None:
    if expected.dtype not in LOWER:
        return None
    # Scaled into the narrow type's range, for its precision is the fault; by no round number, which it could hold.
    size = 1.37 * (float(np.max(np.abs(value), initial=0.0)) or 1.0)
    return (value / size).astype(LOWER[expected.dtype]).astype(np.float64) * size


def _one_percent_small(value: np.ndarray, expected: Expected, case: Case, step: int) -> np.ndarray | None:
    return None if value.dtype == np.bool_ else 0.99 * value


FAULTS = (
    Fault("zeros", "output", _zeros),
    Fault("identity", "output", _identity),
    Fault("a tile dropped", "output", _tile_dropped),
    Fault("a row shifted", "output", _row_shifted),
    Fault("one precision lower", "output", _lower_precision),
    Fault("1 % small", "output", _one_percent_small),
    Fault("zeros", "gradient", _zeros),
    Fault("a tile dropped", "gradient", _tile_dropped),
    Fault("1 % small", "gradient", _one_percent_small),
)
