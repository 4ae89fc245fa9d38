"""One small call made many times: does it always give the same bits, whatever other calls are in flight, and does
memory grow?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.checks.judge import is_float
from autoresearch_trainer.forms import listed
from autoresearch_trainer.probe.memory import Growth, allocated
from autoresearch_trainer.probe.repeated import IN_FLIGHT, REPEAT_SECONDS, Repeated, many_times

# What a call returns, and the gradients by argument, for the values of all arguments.
Call = Callable[[dict[str, Any]], tuple[Any, dict[str, mx.array]]]


def repeat(call: Call, values: Mapping[str, Any], count: int) -> Repeated:
    """At most `count` calls in at most REPEAT_SECONDS, every other one with new arrays, as a trainer makes them."""

    def results(number: int) -> list[bytes]:
        return _evaluated(call, _made(values, 1.0) if number % 2 else dict(values))

    first = results(0)
    growth = Growth(lambda: allocated() + mx.get_active_memory())
    made, strayed = many_times(lambda number: results(number) == first, count, REPEAT_SECONDS, [growth])
    crossed = _crossed(call, values, min(made, IN_FLIGHT))
    return Repeated(made, strayed, leaked=growth.per_call(), crossed=crossed)


def _crossed(call: Call, values: Mapping[str, Any], count: int) -> int:
    """How many calls differ when none is evaluated before all are made, from the same calls one after the other."""
    given = [_made(values, 1 + number / count) for number in range(count)]
    alone = [_evaluated(call, each) for each in given]
    flying = [_arrays(call, each) for each in given]
    mx.eval(flying)
    return sum(_bytes(arrays) != one for arrays, one in zip(flying, alone, strict=True))


def times(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The same with arrays of floating numbers times this factor."""
    return {name: value * factor if is_float(value) else value for name, value in values.items()}


def _made(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Other arrays, times this factor, that are evaluated."""
    found = times(values, factor)
    mx.eval([value for value in found.values() if isinstance(value, mx.array)])
    return found


def _arrays(call: Call, values: dict[str, Any]) -> list[mx.array]:
    returned, gradients = call(values)
    return [each for each in (*listed(returned), *gradients.values()) if isinstance(each, mx.array)]


def _evaluated(call: Call, values: dict[str, Any]) -> list[bytes]:
    arrays = _arrays(call, values)
    mx.eval(arrays)
    return _bytes(arrays)


def _bytes(arrays: list[mx.array]) -> list[bytes]:
    return [to_numpy(each).tobytes() for each in arrays]
