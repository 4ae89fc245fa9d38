"""Sampled calls of kernels in a training of MLX: taken where the trainer makes them, eager or compiled, judged later.

A graph of MLX calls nothing back while it runs. But arrays are values, computed when they are asked for: what a call
takes and gives can be kept, or, from compiled code, handed out beside the step's own results. What is not sampled is
never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from autoresearch_mlx.checks.judge import Call, Judge, differentiated, is_float
from autoresearch_mlx.kernel_files import is_traced, traced
from autoresearch_trainer.forms import listed
from autoresearch_trainer.in_place import CheckedCallsBase
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.sampling import Sampler


class CheckedCalls(CheckedCallsBase):
    """See CheckedCallsBase."""

    def __init__(self, sampler: Sampler, judges: Mapping[str, Judge]) -> None:
        super().__init__(sampler, judges)
        # Calls in the function that is being traced now; None where none is, or one whose calls nobody takes.
        self._traced: list[Call] | None = None

    def wrap(self, target: str, function: Kernel) -> Kernel:
        """The kernel with its calls sampled; any other target's as it is."""
        if target not in self._judges:
            return function
        names = self._judges[target].contract.arguments

        def checked(*args: Any, **kwargs: Any) -> Any:
            args = (*args, *(kwargs[name] for name in names[len(args) :] if name in kwargs))
            if is_traced():
                if self._traced is None:
                    return function(*args)
                call = Call(target, list(args))
                self._traced.append(call)
                return seen(call, function)
            if not self._sample(target):
                return function(*args)
            call = Call(target, list(args), self.made[target], self.step)
            returned = seen(call, function)
            if self.in_step:
                self._pending.append(call)
            else:
                self.judge(call)
            return returned

        return checked

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` compiled, with its kernels' calls sampled each time that it runs."""
        calls: list[Call] = []

        def body(*args: Any) -> tuple[Any, list[dict[str, list[Any]]]]:
            self._traced = calls
            calls.clear()  # it may be traced again, for other shapes
            try:
                result = function(*args)
            finally:
                self._traced = None
            arrays = [_arrays(call) for call in calls]
            calls[:] = [_without_arrays(call) for call in calls]
            return result, arrays

        prepared = mx.compile(traced(body))

        def run(*args: Any) -> Any:
            result, arrays = prepared(*args)
            for call, found in zip(calls, arrays, strict=True):
                if self._sample(call.target):
                    filled = _filled(call, found)
                    filled.number, filled.step = self.made[call.target], self.step
                    self._pending.append(filled)
            return result

        return run

    def _sample(self, target: str) -> bool:
        """Counts a call; whether it is sampled."""
        self.made[target] += 1
        return self._sampler.draw(target)


def seen(call: Call, function: Kernel) -> Any:
    """The kernel's results, with all that the call takes and gives written into `call`, what its backward does once
    that is traced."""
    places = [place for place, value in enumerate(call.arguments) if isinstance(value, mx.array)]
    wanted = tuple(place for place in places if is_float(call.arguments[place]))

    def filled(arrays: Any) -> list[Any]:
        arguments = list(call.arguments)
        for place, array in zip(places, listed(arrays), strict=True):
            arguments[place] = array
        return arguments

    @mx.custom_function
    def kernel(*arrays: mx.array) -> Any:
        returned = function(*filled(arrays))
        return tuple(returned) if isinstance(returned, list) else returned

    @kernel.vjp
    def backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        arguments = filled(primals)
        _, gradients = differentiated(function, arguments, wanted, listed(cotangents))
        call.wanted, call.cotangents, call.gradients = wanted, listed(cotangents), gradients
        by_place = dict(zip(wanted, gradients, strict=True))
        return tuple(by_place.get(place, mx.zeros_like(arguments[place])) for place in places)

    returned = kernel(*(call.arguments[place] for place in places))
    call.outputs = listed(returned)
    return returned


def _arrays(call: Call) -> dict[str, list[Any]]:
    """What of a call compiled code computes."""
    arguments = [value for value in call.arguments if isinstance(value, mx.array)]
    parts = {"outputs": call.outputs, "cotangents": call.cotangents, "gradients": call.gradients}
    return {"arguments": arguments, **parts}


def _without_arrays(call: Call) -> Call:
    arguments = [_Place() if isinstance(value, mx.array) else value for value in call.arguments]
    return Call(call.target, arguments, wanted=call.wanted)


def _filled(call: Call, found: Mapping[str, list[Any]]) -> Call:
    """A call of compiled code with the arrays of this time."""
    arrays = iter(found["arguments"])
    return Call(
        call.target,
        [next(arrays) if isinstance(value, _Place) else value for value in call.arguments],
        outputs=found["outputs"],
        wanted=call.wanted,
        cotangents=found["cotangents"],
        gradients=found["gradients"],
    )


class _Place:
    """Where a call has an array."""
