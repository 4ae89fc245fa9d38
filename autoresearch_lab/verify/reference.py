"""What is right: the float64 oracle's outputs and gradients for a step, and the scale that errors are relative to."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from autoresearch_common.arrays import is_float, storage
from autoresearch_common.metrics import FullRows, Scale, scale_of
from autoresearch_common.tolerance import HALF_UNIT
from autoresearch_lab.verify.axes import in_one_row
from autoresearch_lab.verify.cancelled import summed_size
from autoresearch_lab.verify.cases import JITTER, ROUGH, Case, CaseStep, Contents
from autoresearch_trainer.jobs.calls import COUNTED, ResultName

Values = dict[ResultName, np.ndarray]
# Draws by which it is told what roundings can do to a result.
DISTURBANCES = 4


@dataclass(frozen=True)
class Expected:
    """One right result: `value` as the oracle gives it; `finite`, `nan`, `positive`: masks of what the storage dtype
    makes of it; `scale` of the finite part (None for booleans)."""

    value: np.ndarray
    dtype: str
    finite: np.ndarray
    nan: np.ndarray
    positive: np.ndarray
    scale: Scale | None

    @property
    def all_finite(self) -> bool:
        return bool(self.finite.all())


Results = dict[ResultName, Expected]


class References:
    """Oracle results by step, computed once each."""

    def __init__(self, oracle: ModuleType) -> None:
        self._oracle = oracle
        self._known: dict[int, Results] = {}
        self._disturbed: dict[int, list[Values]] = {}

    def of(self, case: Case, step: CaseStep) -> Results:
        """All results of a step by name."""
        return _asked_for(case, self._remembered(case, step.contents, step.shadows))

    def longest_sum(self, case: Case) -> int:
        """Terms of the longest sum in an element of a result, as the oracle says."""
        terms: int = getattr(self._oracle, "longest_sum", lambda workload: 1)(case.workload)
        return terms

    def shadow(self, case: Case, contents: Contents) -> Results:
        """All results for one of a step's shadows."""
        return _asked_for(case, self._remembered(case, contents, ()))

    def disturbed(self, case: Case, step: CaseStep) -> list[Values]:
        """What the oracle gives where every floating element of the arguments is half a unit of float32 off, up or
        down: several draws."""
        contents = step.contents
        if contents.number not in self._disturbed:
            rng = np.random.default_rng(contents.number)
            drawn = [_half_a_unit_off(contents, case.same, rng) for _ in range(DISTURBANCES)]
            self._disturbed[contents.number] = [self._values(args, contents, case) for args in drawn]
        return self._disturbed[contents.number]

    def _remembered(self, case: Case, contents: Contents, shadows: tuple[Contents, ...]) -> Results:
        if contents.number not in self._known:
            self._known[contents.number] = self._compute(case, contents, shadows)
        return self._known[contents.number]

    def _compute(self, case: Case, contents: Contents, shadows: tuple[Contents, ...]) -> Results:
        values = self._values(contents.widened(), contents, case)
        others = [{name: e.value for name, e in self._remembered(case, shadow, ()).items()} for shadow in shadows]
        dtypes = {ResultName.output(place): dtype for place, dtype in enumerate(case.dtypes)}
        dtypes |= {ResultName.gradient(spec["name"]): spec["dtype"] for spec in case.specs if spec["kind"] == "array"}
        least = self._least(case) if contents.kind in ROUGH else {}
        least = _with_cancelled(least, contents, values)
        return {
            name: expected(
                value,
                dtypes[name],
                _condition(value, [other[name] for other in others]),
                least.get(name, 0.0),
                _full_rows(case, name),
            )
            for name, value in values.items()
        }

    def _least(self, case: Case) -> dict[ResultName, float]:
        """The least size that counts on edge and adversarial values: the usual size of each result.

        Where a function saturates, gradients near zero are differences of rounded numbers: one honest implementation
        gets them right and another does not, and neither matters beside those of usual values.
        """
        usual = next((step for step in case.steps if step.contents.kind == "typical"), None)
        if usual is None:
            return {}
        results = self._remembered(case, usual.contents, usual.shadows)
        return {name: _rms(result) for name, result in results.items() if result.scale is not None}

    def _values(self, args: dict[str, Any], contents: Contents, case: Case) -> Values:
        outputs = self._oracle.forward(args)
        for _ in range(case.onward):
            args = {name: np.zeros_like(value) if name in contents.arrays else value for name, value in args.items()}
            args |= dict(zip(case.updated, outputs, strict=True))
            args |= {name: args[name] + 1 for name in COUNTED if name in args}
            outputs = self._oracle.forward(args)
        values = {ResultName.output(place): np.asarray(value) for place, value in enumerate(outputs)}
        if contents.cotangents is None:
            return values
        gradients = self._oracle.backward(args, tuple(c.astype(np.float64) for c in contents.cotangents))
        if case.same:
            one, other = case.same
            gradients = {**gradients, one: gradients[one] + gradients[other]}
        return values | {ResultName.gradient(name): np.asarray(value) for name, value in gradients.items()}


def _half_a_unit_off(contents: Contents, same: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    args = contents.widened()
    for name, array in contents.arrays.items():
        if is_float(array):
            args[name] = args[name] * (1.0 + HALF_UNIT * rng.choice((-1.0, 1.0), array.shape))
    if same:
        args[same[1]] = args[same[0]]
    return args


def expected(
    value: np.ndarray,
    dtype: str,
    condition: np.ndarray | None = None,
    least: float = 0.0,
    full: FullRows = "no rows",
) -> Expected:
    """An oracle's value with its masks; what overflows in `dtype` counts as infinite. condition, least, full: see
    `scale_of`."""
    value = np.asarray(value)
    if value.dtype == np.bool_:
        yes = np.ones(value.shape, dtype=bool)
        return Expected(value, dtype, yes, ~yes, ~yes, None)
    with np.errstate(all="ignore"):
        stored = value.astype(storage(dtype)).astype(np.float64)
    finite = np.isfinite(stored)
    scale = scale_of(np.where(finite, value, 0.0), condition, dtype, least, full)
    return Expected(value, dtype, finite, np.isnan(stored), stored == np.inf, scale)


def _full_rows(case: Case, name: ResultName) -> FullRows:
    """The rows of a result that may cancel."""
    if name.kind != "gradient":
        return "no rows"
    return "all rows" if in_one_row(case) - {str(name.which)} else "rows of zeros"


def _with_cancelled(least: dict[ResultName, float], contents: Contents, values: Values) -> dict[ResultName, float]:
    """`least`, and for gradients that cancelled the size of what was summed."""
    outputs = [value for name, value in values.items() if name.kind == "output"]
    summed = {
        name: summed_size(contents, outputs, str(name.which), value)
        for name, value in values.items()
        if name.kind == "gradient"
    }
    return least | {name: max(size, least.get(name, 0.0)) for name, size in summed.items()}


def _condition(value: np.ndarray, others: list[np.ndarray]) -> np.ndarray | None:
    """Change of the value per relative change of the inputs: root mean square over the shadows."""
    if not others or value.dtype == np.bool_:
        return None
    total = np.zeros(value.shape)
    for other in others:
        with np.errstate(all="ignore"):
            change = np.square((other - value) / JITTER)
        total += np.where(np.isfinite(change), change, 0.0) / len(others)
    return np.sqrt(total)


def _rms(result: Expected) -> float:
    values = result.value[result.finite]
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _asked_for(case: Case, results: Results) -> Results:
    return {name: value for name, value in results.items() if name.kind == "output" or name.which in case.grad}
