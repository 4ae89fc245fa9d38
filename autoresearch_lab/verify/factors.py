"""Common factors in the errors of a verification's results: which are looked at, and how large each may be.

Only captured calls are: rows are many there, and values are the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch_lab.catalog import Contract
from autoresearch_lab.verify.bias import Bias, bias_of, limit
from autoresearch_lab.verify.cases import Case, Contents, widen
from autoresearch_lab.verify.exchange import Answers
from autoresearch_lab.verify.reference import Expected, References
from autoresearch_trainer.jobs.calls import ResultName

# The name of the measure beside those of `metrics`.
METRIC = "factor"
_RANK = {"float32": 0, "float16": 1, "bfloat16": 2}


@dataclass(frozen=True)
class Factor:
    """One result's. found: b; margin: how far it may be off by chance; trusted: the largest of the trusted
    implementations; allowed: the largest |b| of an honest kernel. All without a unit."""

    found: Bias
    trusted: float
    allowed: float

    @property
    def sure(self) -> float:
        """The part of |b| that is no chance."""
        return max(0.0, abs(self.found.value) - self.found.margin)

    @property
    def least(self) -> float:
        """The smallest |b| that would have failed."""
        return self.allowed + self.found.margin


class Factors:
    """Factors of a candidate's results, and those of the trusted implementations that they are held to."""

    def __init__(self, contract: Contract, trusted: Sequence[Answers], references: References) -> None:
        self._contract = contract
        self._trusted = trusted
        self._references = references
        self._known: dict[tuple[str, ResultName], list[Bias]] = {}

    def of(self, case: Case, step: int, name: ResultName, right: Expected, values: np.ndarray) -> Factor | None:
        """The factor in a result's float64 `values` (finite as the oracle's are); None where none is looked at."""
        if not _looked_at(case, step, name, right):
            return None
        before = self._before(case, step, name)
        found = bias_of(values, right.value, before)
        if found is None:
            return None
        floor = self._contract.tolerance.floor.get("float32", 0.0)
        dtype = coarsest_dtype(case, name, right)
        allowed = limit(self._of_trusted(case, name), dtype, floor, right.value, before)
        return Factor(found, allowed.trusted, allowed.allowed)

    def _of_trusted(self, case: Case, name: ResultName) -> list[Bias]:
        """The trusted implementations' factors in this result over the steps of a case: one alone may be small by
        luck."""
        name = ResultName.gradient(str(name.which)) if name.kind == "second_gradient" else name
        if (case.id, name) not in self._known:
            found = []
            for step in range(len(case.steps)):
                right = self._references.of(case, case.steps[step]).get(name) if case.steps[step].judged else None
                if right is None or not _looked_at(case, step, name, right):
                    continue
                for answers in self._trusted:
                    array = answers.array(case, step, name)
                    if array is None or array.shape != right.value.shape or not np.isfinite(widen(array)).all():
                        continue
                    bias = bias_of(widen(array), right.value, self._before(case, step, name))
                    found += [bias] if bias is not None else []
            self._known[case.id, name] = found
        return self._known[case.id, name]

    def _before(self, case: Case, step: int, name: ResultName) -> np.ndarray | None:
        """What the argument held that this output is, updated in place; None for other results."""
        if name.kind != "output":
            return None
        output = self._contract.outputs[int(name.which)].name
        updated = any(argument.name == output and argument.inplace for argument in self._contract.args)
        return widen(case.steps[step].contents.arrays[output]) if updated else None


def coarsest_dtype(case: Case, name: ResultName, right: Expected) -> str:
    """The dtype that bounds a result's precision: its own, for a gradient the coarsest floating argument's."""
    dtypes = {right.dtype}
    if name.kind == "gradient":
        dtypes |= {spec["dtype"] for spec in case.specs if spec["kind"] == "array" and spec["dtype"] in _RANK}
    return max(dtypes, key=lambda dtype: _RANK.get(dtype, -1))


def _looked_at(case: Case, step: int, name: ResultName, right: Expected) -> bool:
    """A cotangent that is one number for all elements, and no power of two, is rounded alike in all of them: honest
    kernels then have the factor of that one rounding (up to 0.2 % in bfloat16)."""
    if case.group != "accuracy" or right.scale is None or not right.all_finite:
        return False
    return name.kind == "output" or not _rounds_alike(case.steps[step].contents)


def _rounds_alike(contents: Contents) -> bool:
    for cotangent in contents.cotangents or ():
        values = np.unique(np.abs(cotangent.astype(np.float64)))
        if len(values) == 1 and values[0] > 0 and math.frexp(float(values[0]))[0] != 0.5:
            return True
    return False
