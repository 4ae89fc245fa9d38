"""Common factors in the errors of a verification's results: which are looked at, and how large each may be.

Only captured calls are: rows are many there, and values are the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoresearch_common.tolerance import WORDS, coarsest
from autoresearch_lab.catalog import Contract
from autoresearch_lab.verify.bias import Bias, bias_of, limit, part_limit, parts_of
from autoresearch_lab.verify.cases import Case, Contents, widen
from autoresearch_lab.verify.exchange import Answers
from autoresearch_lab.verify.reference import Expected, References
from autoresearch_trainer.jobs.calls import ResultName

# The names of the measures beside those of `metrics`.
METRIC, SIDE = "factor", "shift to one side"
_WORDS = WORDS | {
    METRIC: "common factor by which the whole result is too large or too small",
    SIDE: "shift of the whole result to one side",
}
# What a factor is looked for in: the result or, of what is updated in place, its change; how far it lies to one side;
# all of what is updated in place, and so whether it lies towards zero.
What = Literal["factor", "side", "whole"]
# Dtypes whose roundings, all in one direction, move what is updated in place within a training.
NARROW = ("bfloat16", "float16")


def in_words(metric: str) -> str:
    """The name of a measure, as messages have it; that of a part's factor says it already."""
    return _WORDS.get(metric, metric)


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
        self._known: dict[tuple[str, ResultName, What], list[Bias]] = {}

    def of(self, case: Case, step: int, name: ResultName, right: Expected, values: np.ndarray) -> Factor | None:
        """The factor in a result's float64 `values` (finite as the oracle's are); None where none is looked at."""
        if not _looked_at(case, step, name, right):
            return None
        return self._factor(case, step, name, right, values, "factor")

    def of_a_side(self, case: Case, step: int, name: ResultName, right: Expected, values: np.ndarray) -> Factor | None:
        """How far a result lies to one side, where that is beyond what is allowed; None where it is not. Of optimizers
        only what they store in a narrow dtype, and there the side is that of zero."""
        forward = self._contract.phase == "forward"
        if not (forward or right.dtype in NARROW) or not _looked_at(case, step, name, right):
            return None
        factor = self._factor(case, step, name, right, values, "side" if forward else "whole")
        return factor if factor is not None and factor.sure > factor.allowed else None

    def _factor(
        self, case: Case, step: int, name: ResultName, right: Expected, values: np.ndarray, what: What
    ) -> Factor | None:
        before = self._before(case, step, name)
        found = _bias(values, right, before, what)
        if found is None:
            return None
        floor = self._contract.tolerance.floor.get("float32", 0.0)
        dtype = coarsest_dtype(case, name, right)
        allowed = limit(self._of_trusted(case, name, what), dtype, floor, right.value, _compared(before, what))
        return Factor(found, allowed.trusted, allowed.allowed)

    def of_a_part(
        self, case: Case, step: int, name: ResultName, right: Expected, values: np.ndarray
    ) -> tuple[str, Factor] | None:
        """The part of a result whose factor is beyond what is allowed, in words, and that factor; None where there is
        none. Not of optimizers: what an iteration rounds is common to a matrix or a row of it."""
        if self._contract.phase != "forward" or right.value.ndim < 2 or not _looked_at(case, step, name, right):
            return None
        floor = self._contract.tolerance.floor.get("float32", 0.0)
        dtype = coarsest_dtype(case, name, right)
        for part in parts_of(values, right.value):
            words, found = f"factor of part {part.place} along axis {part.axis}", part.bias
            factor = Factor(found, 0.0, part_limit((), dtype, floor).allowed)
            if factor.sure > factor.allowed:
                bound = part_limit(self._parts_of_trusted(case, name, part.axis), dtype, floor)
                factor = Factor(found, bound.trusted, bound.allowed)
                if factor.sure > factor.allowed:
                    return words, factor
        return None

    def _parts_of_trusted(self, case: Case, name: ResultName, axis: int) -> list[Bias]:
        """The trusted implementations' largest factors of parts along an axis."""
        return [
            part.bias
            for values, right, _ in self._results_of_trusted(case, name)
            for part in parts_of(values, right.value, (axis,))
        ]

    def _of_trusted(self, case: Case, name: ResultName, what: What) -> list[Bias]:
        """The trusted implementations' factors in this result over the steps of a case: one alone may be small by
        luck."""
        name = name.once
        if (case.id, name, what) not in self._known:
            theirs = self._results_of_trusted(case, name)
            found = [_bias(values, right, before, what) for values, right, before in theirs]
            self._known[case.id, name, what] = [bias for bias in found if bias is not None]
        return self._known[case.id, name, what]

    def _results_of_trusted(
        self, case: Case, name: ResultName
    ) -> Iterator[tuple[np.ndarray, Expected, np.ndarray | None]]:
        """(values, what is right, what the argument held) of each trusted implementation in each step."""
        name = name.once
        for step in range(len(case.steps)):
            right = self._references.of(case, case.steps[step]).get(name) if case.steps[step].judged else None
            if right is None or not _looked_at(case, step, name, right):
                continue
            for answers in self._trusted:
                array = answers.array(case, step, name)
                if array is not None and array.shape == right.value.shape and np.isfinite(widen(array)).all():
                    yield widen(array), right, self._before(case, step, name)

    def _before(self, case: Case, step: int, name: ResultName) -> np.ndarray | None:
        """What the argument held that this output is, updated in place; None for other results."""
        if name.kind != "output":
            return None
        output = self._contract.outputs[int(name.which)].name
        updated = any(argument.name == output and argument.inplace for argument in self._contract.args)
        return widen(case.steps[step].contents.arrays[output]) if updated else None


def _bias(values: np.ndarray, right: Expected, before: np.ndarray | None, what: What) -> Bias | None:
    return bias_of(values, right.value, _compared(before, what), sideways=what == "side")


def _compared(before: np.ndarray | None, what: What) -> np.ndarray | None:
    """What an argument held, from which on its change is looked at; None where all of it is."""
    return None if what == "whole" else before


def coarsest_dtype(case: Case, name: ResultName, right: Expected) -> str:
    """The dtype that bounds a result's precision: its own, for a gradient the coarsest floating argument's. Of what is
    no number, its own."""
    given = {spec["dtype"] for spec in case.specs if spec["kind"] == "array" and name.kind == "gradient"}
    return right.dtype if right.scale is None else coarsest({right.dtype, *given})


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
