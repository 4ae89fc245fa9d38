"""One sampled call against the target's float64 oracle, by the target's contract.

Not against the baseline in a wider type, as with PyTorch: nothing makes MLX round less than its code says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_common.arrays import storage
from autoresearch_common.metrics import errors, scale_of
from autoresearch_common.tolerance import WORDS, Errors, allowed, coarsest, excess_of, of_a_sum, rounding_rows, worst
from autoresearch_mlx.arrays import to_numpy
from autoresearch_trainer.contract import CallContract
from autoresearch_trainer.forms import listed
from autoresearch_trainer.in_place import Finding
from autoresearch_trainer.kernel_files import Kernel


@dataclass
class Call:
    """A sampled call: its arguments, its results, and what its backward got and gave, if it had one.

    wanted: places of the arguments that `gradients` are of, in order; cotangents: of all results. In a function that is
    compiled all of these are filled in each time that it runs.
    """

    target: str
    arguments: list[Any]
    number: int = 0
    step: int = 0
    outputs: list[mx.array] = field(default_factory=list)
    wanted: tuple[int, ...] = ()
    cotangents: list[mx.array] = field(default_factory=list)
    gradients: list[mx.array] = field(default_factory=list)

    @property
    def floats(self) -> list[mx.array]:
        return [value for value in self.arguments if is_float(value)]


class Judge:
    """Compares calls of one target. baseline: whose own errors a kernel may have, as often as the contract says."""

    def __init__(self, contract: CallContract, oracle: ModuleType, baseline: Kernel) -> None:
        self.contract = contract
        self._oracle, self._baseline = oracle, baseline
        # The baseline's worst errors so far by result and shape: those of a single call may be small by luck.
        self._known: dict[tuple[str, tuple[int, ...]], Errors] = {}

    def examine(self, call: Call) -> Finding:
        """Hold every result and gradient of a call against the oracle's, and, where that is further away than the
        contract's floor, against the baseline's error."""
        truth = self._truth(call)
        found = self._named(call.outputs, dict(zip(call.wanted, call.gradients, strict=True)))
        theirs: Mapping[str, np.ndarray] | None = None
        elements, most = 0, 0.0
        for name, right in truth.items():
            if name not in found:
                return Finding(0, float("inf"), f"its results carry no {name}")
            finding = self._compare(name, found[name], right, call, None)
            if finding.problem:
                theirs = self._of_the_baseline(call) if theirs is None else theirs
                finding = self._compare(name, found[name], right, call, theirs[name])
            if finding.problem:
                return finding
            elements, most = elements + finding.elements, max(most, finding.excess)
        return Finding(elements, most)

    def _named(self, outputs: list[mx.array], gradients: Mapping[int, mx.array]) -> dict[str, np.ndarray]:
        names = self.contract
        found = {f"result {name}": to_numpy(value) for name, value in zip(names.outputs, outputs, strict=False)}
        return found | {f"gradient of {names.arguments[place]}": to_numpy(value) for place, value in gradients.items()}

    def _truth(self, call: Call) -> dict[str, np.ndarray]:
        """What is right, float64 (masks: bool), of the results and of the gradients that there are."""
        args = dict(zip(self.contract.arguments, map(_plain, call.arguments), strict=True))
        right = {
            f"result {name}": np.asarray(value)
            for name, value in zip(self.contract.outputs, self._oracle.forward(args), strict=True)
        }
        if not call.cotangents:
            return right
        gradients = self._oracle.backward(args, tuple(to_numpy(one).astype(np.float64) for one in call.cotangents))
        return right | {f"gradient of {name}": np.asarray(value) for name, value in gradients.items()}

    def _of_the_baseline(self, call: Call) -> dict[str, np.ndarray]:
        outputs, gradients = differentiated(self._baseline, call.arguments, call.wanted, call.cotangents)
        return self._named(outputs, dict(zip(call.wanted, gradients, strict=True)))

    def _compare(
        self, name: str, value: np.ndarray, truth: np.ndarray, call: Call, theirs: np.ndarray | None
    ) -> Finding:
        """theirs: the same of the baseline, where its error is to count."""
        if value.shape != truth.shape:
            return Finding(0, float("inf"), f"{name} has shape {value.shape}, not {truth.shape}")
        if truth.dtype == np.bool_:
            wrong = int(np.count_nonzero(value != truth))
            return Finding(value.size, float(wrong), f"{name}: {wrong} elements differ" if wrong else None)
        measured = _measured(value, truth)
        if measured is None:
            if theirs is not None and _measured(theirs, truth) is None:
                return Finding(0, 0.0)  # nor does the baseline agree with the oracle here
            return Finding(0, float("inf"), f"{name}: NaN or infinite where it should not be, or finite")
        given = [str(one.dtype).removeprefix("mlx.core.") for one in call.floats if name.startswith("gradient")]
        floor = self.contract.floor.get(coarsest({value.dtype.name, *given}), 0.0)
        rows = rounding_rows(value.shape, call.floats[0].shape if call.floats else value.shape)
        # Of a kernel that updates nothing: along one axis of an argument it may sum. An optimizer's change is small.
        longest = max((n for argument in call.floats for n in argument.shape), default=1)
        more = 0.0 if self.contract.updated else of_a_sum(longest)
        own = Errors(0.0, 0.0, 0.0, 0.0)
        if theirs is not None and (error := _measured(theirs, truth)) is not None:
            key = name, value.shape
            self._known[key] = own = worst([error, *([self._known[key]] if key in self._known else [])])
        limits = allowed(own, self.contract.factor, floor, rows).widened(more)
        excess, metric = excess_of(measured, limits)
        if excess <= 1.0:
            return Finding(value.size, excess)
        error_, limit = getattr(measured, metric), getattr(limits, metric)
        return Finding(value.size, excess, f"{name}: {WORDS[metric]} {error_:.3g}, allowed {limit:.3g}")


def differentiated(
    kernel: Kernel, arguments: list[Any], wanted: tuple[int, ...], cotangents: list[mx.array]
) -> tuple[list[mx.array], list[mx.array]]:
    """(results, gradients of the arguments at the places `wanted`); none of these without cotangents."""

    def alone(*values: mx.array) -> list[mx.array]:
        filled = list(arguments)
        for place, value in zip(wanted, values, strict=True):
            filled[place] = value
        return listed(kernel(*filled))

    if not cotangents:
        return listed(kernel(*arguments)), []
    outputs, gradients = mx.vjp(alone, [arguments[place] for place in wanted], cotangents)
    return outputs, gradients


def is_float(value: Any) -> bool:
    return isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)


def _plain(value: Any) -> Any:
    """As an oracle takes it: floats float64."""
    if not isinstance(value, mx.array):
        return value
    return to_numpy(value).astype(np.float64) if is_float(value) else to_numpy(value)


def _measured(value: np.ndarray, truth: np.ndarray) -> Errors | None:
    """The errors of the finite elements; None where one is NaN or infinite and the other is not, or is another one."""
    dtype = value.dtype.name
    with np.errstate(all="ignore"):
        stored, given = truth.astype(storage(dtype)).astype(np.float64), value.astype(np.float64)
    finite = np.isfinite(stored)
    if not np.array_equal(given[~finite], stored[~finite], equal_nan=True) or not np.isfinite(given[finite]).all():
        return None
    right = np.where(finite, truth, 0.0)
    return errors(np.where(finite, given, 0.0), right, scale_of(right, None, dtype))
