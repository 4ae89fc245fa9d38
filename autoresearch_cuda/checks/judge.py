"""One sampled call against the baseline, by the target's contract."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autoresearch_common.tolerance import (
    NAMES,
    WORDS,
    Errors,
    allowed,
    coarsest,
    excess_of,
    of_a_sum,
    rounding_rows,
    worst,
)
from autoresearch_cuda.checks.accuracy import errors, nonfinite_problem
from autoresearch_cuda.checks.wider import Wider, wide_dtype
from autoresearch_trainer.contract import CallContract
from autoresearch_trainer.forms import listed
from autoresearch_trainer.in_place import Finding
from autoresearch_trainer.kernel_files import Kernel

# Where the baseline itself is this wrong a result says nothing about a candidate.
USELESS = 0.5
_HALF = (torch.bfloat16, torch.float16)


@dataclass
class Call:
    """A sampled call: copies of its arguments as they were before it, of its results, and of what its backward got and
    gave. cotangents: by place of the result; gradients: by place of the argument. wanted: places of the arguments that
    have a gradient in this call; same: of those that were the same tensor as an earlier one, by place, that one's
    place, whose gradient is that of both."""

    target: str
    number: int
    step: int
    arguments: list[Any]
    wanted: tuple[int, ...] = ()
    same: dict[int, int] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)
    cotangents: dict[int, Tensor] = field(default_factory=dict)
    gradients: dict[int, Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in self.arguments if isinstance(value, Tensor)]


class Judge:
    """Compares calls of one target. references: its trusted implementations, the baseline first."""

    def __init__(self, contract: CallContract, references: Sequence[Kernel]) -> None:
        self.contract = contract
        self._references = references
        # The baseline's worst errors so far by result and shape: those of a single call may be small by luck.
        self._known: dict[tuple[str, torch.Size], Errors] = {}

    def examine(self, call: Call) -> Finding:
        """Hold every result and gradient of a call against the baseline computed in a wider type, and, where that is
        further away than the contract's floor, against the baseline's and the other trusted implementations' errors."""
        wide = wide_dtype(call.tensors)
        truth = self._results(self._references[0], call, wide)
        found = self._found(call)
        if len(found) != len(truth):
            missing = ", ".join(sorted(truth.keys() - found.keys()) or ["too many results"])
            return Finding(0, float("inf"), f"its results carry no {missing}")
        own = _Lazily(self._references, lambda reference: self._results(reference, call, None))
        elements, most = 0, 0.0
        for name, value in found.items():
            finding = self._compare(name, value, truth[name], call, own)
            if finding.problem:
                return finding
            elements, most = elements + finding.elements, max(most, finding.excess)
        return Finding(elements, most)

    def _found(self, call: Call) -> dict[str, Tensor]:
        found = {self._output(place): value for place, value in enumerate(call.outputs)}
        if call.cotangents:
            for place in call.wanted:
                gradient = call.gradients.get(place)
                found[self._gradient(place)] = torch.zeros_like(call.arguments[place]) if gradient is None else gradient
        return found

    def _output(self, place: int) -> str:
        names = self.contract.outputs
        return f"result {names[place]}" if place < len(names) else f"result {place}"

    def _gradient(self, place: int) -> str:
        return f"gradient of {self.contract.arguments[place]}"

    def _results(self, kernel: Kernel, call: Call, wide: torch.dtype | None) -> dict[str, Tensor]:
        """Results and gradients of a trusted implementation for copies of the arguments, wider ones or as they are."""
        copies = [_copy(value, wide) for value in call.arguments]
        for place in call.wanted:
            copies[place].requires_grad_()
        for place, first in call.same.items():
            copies[place] = copies[first]
        mode = Wider(wide) if wide else nullcontext()
        with torch.inference_mode(False), torch.set_grad_enabled(bool(call.wanted)), mode:
            returned = kernel(*copies)
            outputs = listed(returned)
            found = {self._output(place): value.detach() for place, value in enumerate(outputs)}
            if not call.cotangents:
                # No backward came. Where there should have been one, a result of the baseline carries gradients.
                reached = any(value.requires_grad for value in outputs)
                return found | (
                    {self._gradient(place): found[self._output(0)] for place in call.wanted} if reached else {}
                )
            pairs = [(outputs[place], cotangent) for place, cotangent in call.cotangents.items()]
            pairs = [(output, cotangent.to(output.dtype)) for output, cotangent in pairs if output.requires_grad]
            leaves = [copies[place] for place in call.wanted]
            grads = torch.autograd.grad(
                [output for output, _ in pairs], leaves, [cotangent for _, cotangent in pairs], allow_unused=True
            )
        for place, leaf, grad in zip(call.wanted, leaves, grads, strict=True):
            found[self._gradient(place)] = torch.zeros_like(leaf) if grad is None else grad
        return found

    def _compare(self, name: str, value: Tensor, truth: Tensor, call: Call, own: _Lazily) -> Finding:
        if value.shape != truth.shape:
            return Finding(0, float("inf"), f"{name} has shape {tuple(value.shape)}, not {tuple(truth.shape)}")
        if not truth.is_floating_point():
            wrong = int(torch.count_nonzero(value != truth))
            return Finding(value.numel(), float(wrong), f"{name}: {wrong} elements differ" if wrong else None)
        measured = _measured(value, truth)
        if measured is None:
            if own[0].get(name) is not None and _measured(own[0][name], truth) is None:
                return Finding(0, 0.0)
            return Finding(0, float("inf"), f"{name}: {nonfinite_problem(value, truth)}")
        floats = [tensor for tensor in call.tensors if tensor.is_floating_point()]
        coarse = coarsest({_dtype(value), *(map(_dtype, floats) if name.startswith("gradient") else ())})
        floor = self.contract.floor.get(coarse, 0.0)
        rows = rounding_rows(value.shape, (floats or [value])[0].shape)
        # Of a kernel that updates nothing: along one axis of an argument it may sum. An optimizer's change is small.
        more = 0.0 if self.contract.updated else of_a_sum(max((n for t in call.tensors for n in t.shape), default=1))
        limits = allowed(Errors(0.0, 0.0, 0.0, 0.0), self.contract.factor, floor, rows).widened(more)
        for number in range(len(self._references)):
            excess, metric = excess_of(measured, limits)
            if excess <= 1.0:
                break
            theirs = own[number].get(name)
            error = _measured(theirs, truth) if theirs is not None and theirs.shape == truth.shape else None
            if error is None or error.whole > USELESS:
                if number == 0:
                    return Finding(0, 0.0)
                continue
            key = (name, value.shape)
            self._known[key] = worst([error, *([self._known[key]] if key in self._known else [])])
            limits = allowed(self._known[key], self.contract.factor, floor, rows).widened(more)
        excess, metric = excess_of(measured, limits)
        if excess <= 1.0:
            return Finding(value.numel(), excess)
        error, limit = getattr(measured, metric), getattr(limits, metric)
        return Finding(value.numel(), excess, f"{name}: {WORDS[metric]} {error:.3g}, allowed {limit:.3g}")


class _Lazily:
    """Results of the trusted implementations, computed where they are asked for."""

    def __init__(self, references: Sequence[Kernel], compute: Callable[[Kernel], Mapping[str, Tensor]]) -> None:
        self._references, self._compute = references, compute
        self._known: dict[int, Mapping[str, Tensor]] = {}

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        if number not in self._known:
            try:
                self._known[number] = self._compute(self._references[number])
            except (RuntimeError, NotImplementedError, TypeError, ValueError):
                if number == 0:
                    raise
                self._known[number] = {}  # a library that does not take this call is no measure of it
        return self._known[number]


def _copy(value: Any, wide: torch.dtype | None) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(wide, copy=True) if wide and value.is_floating_point() else value.clone()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _measured(value: Tensor, truth: Tensor) -> Errors | None:
    """The errors of the finite elements; None where one is NaN or infinite and the other is not, or is another one."""
    found = errors(value, truth)
    if all(math.isfinite(getattr(found, metric)) for metric in NAMES):
        return found
    if nonfinite_problem(value, truth) is not None:
        return None
    finite = torch.isfinite(truth) & torch.isfinite(value)
    return errors(value.where(finite, 0.0), truth.where(finite, 0.0))
