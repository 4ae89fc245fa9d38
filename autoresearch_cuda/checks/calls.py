"""Sampled calls of kernels in a training: taken where the trainer makes them, eager or compiled, and judged later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda.checks import compiled
from autoresearch_cuda.checks.eager import watch
from autoresearch_cuda.checks.judge import Call, Judge
from autoresearch_cuda.kernel_files import runs_when_traced
from autoresearch_trainer.in_place import CheckedCallsBase, nothing
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.sampling import Sampler


class CheckedCalls(CheckedCallsBase):
    """See CheckedCallsBase."""

    def __init__(self, sampler: Sampler, judges: Mapping[str, Judge]) -> None:
        super().__init__(sampler, judges)
        # Begins a look at what an optimizer's kernel, called with these arguments, must leave alone; ends it.
        self.around_update: Callable[[tuple[Any, ...]], Callable[[], None]] = lambda args: nothing

    def wrap(self, target: str, function: Kernel) -> Kernel:
        """The kernel with its calls sampled; any other target's as it is."""
        if target not in self._judges:
            return function
        names = self._judges[target].contract.arguments

        @runs_when_traced
        def traced_site(*constants: Any) -> str:
            return compiled.site(self, target, constants)

        def checked(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                args = (*args, *(kwargs[name] for name in names[len(args) :] if name in kwargs))
            if torch.compiler.is_dynamo_compiling():
                key = traced_site(*[None if isinstance(value, Tensor) else value for value in args])
                return compiled.between(function, args, key)
            self.made[target] += 1
            return self._sampled(target, function, args) if self._sampler.draw(target) else function(*args)

        return checked

    def begin(self, target: str, arguments: list[Any], wanted: tuple[int, ...]) -> Call | None:
        """A call in compiled code begins with these arguments; None where it is not sampled."""
        self.made[target] += 1
        if not self._sampler.draw(target):
            return None
        call = self._call(target, arguments)
        call.wanted = wanted
        self._pending.append(call)
        return call

    def _call(self, target: str, arguments: Any) -> Call:
        return Call(target, self.made[target], self.step, [_kept(value) for value in arguments])

    def _sampled(self, target: str, function: Kernel, args: tuple[Any, ...]) -> Any:
        """An eager call. What training computes stays as it is, to the last bit."""
        call = self._call(target, args)
        with_backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in _tensors(args))
        unchanged = self.around_update(args) if self._judges[target].contract.updated else nothing
        returned = function(*args)
        unchanged()
        outputs = returned if isinstance(returned, (tuple, list)) else (returned,)
        call.outputs = [_kept(value) for value in outputs]
        if not with_backward:
            self.judge(call)
            return returned
        if len(outputs) > 1:
            # One result may come from another: through a view of each only what comes from outside reaches its hook.
            returned = outputs = tuple(value.view_as(value) for value in outputs)
        watch(call, args, outputs)
        self._pending.append(call)
        return returned


def _tensors(values: tuple[Any, ...]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
