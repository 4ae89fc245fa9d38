"""One small call made many times: does it always give the same bits, whatever other calls are in flight and whatever
came before, and does memory grow?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.checks.judge import is_float
from autoresearch_trainer.forms import listed
from autoresearch_trainer.probe.memory import Growth, allocated, in_heap
from autoresearch_trainer.probe.repeated import (
    DRIFT,
    IN_FLIGHT,
    MOST_HELD,
    OTHER_RATES,
    REPEAT_SECONDS,
    Repeated,
    following_calls,
    many_times,
    next_step,
    turns,
)

# What a call returns, and the gradients by argument, for the values of all arguments.
Call = Callable[[dict[str, Any]], tuple[Any, dict[str, mx.array]]]
_monotonic = time.monotonic


def repeat(call: Call, values: Mapping[str, Any], count: int, updated: Sequence[str] = ()) -> Repeated:
    """At most `count` calls in at most REPEAT_SECONDS, every other one with new arrays, as a trainer makes them.
    updated: arguments that a trainer replaces by the first results, in this order."""

    def results(number: int) -> list[bytes]:
        return _evaluated(call, _made(values, 1.0) if number % 2 else dict(values))

    first = results(0)  # which may compile something
    began = _monotonic()
    results(1)
    seconds = _monotonic() - began
    growth = Growth(lambda: allocated() + mx.get_active_memory(), held=lambda: in_heap() + mx.get_active_memory())
    made, strayed = many_times(lambda number: results(number) == first, count, REPEAT_SECONDS, [growth])
    size = sum(map(len, first)) + sum(value.nbytes for value in values.values() if isinstance(value, mx.array))
    crossed = _crossed(call, values, min(made, IN_FLIGHT, max(2, MOST_HELD // max(1, size))))
    followed = _followed(call, values, updated, following_calls(seconds, size))
    return Repeated(made, strayed, leaked=growth.per_call(), crossed=crossed, followed=followed)


def _crossed(call: Call, values: Mapping[str, Any], count: int) -> int:
    """How many calls differ when none is evaluated before all are made, from the same calls one after the other."""
    given = [_made(values, 1 + number / count) for number in range(count)]
    alone = [_evaluated(call, each) for each in given]
    flying = [_arrays(call, each) for each in given]
    mx.eval(flying)
    return sum(_bytes(arrays) != one for arrays, one in zip(flying, alone, strict=True))


def _followed(call: Call, values: Mapping[str, Any], updated: Sequence[str], count: int) -> int:
    """How many calls differ, each on what the one before left, from the same calls by themselves: what is updated goes
    on from call to call, and all else hardly changes, as in a training. Two sets of arguments take turns at first."""
    rng = np.random.default_rng(0)
    sets = [_shuffled(values, rng) for _ in range(2)]
    if updated:
        sets[1] = {name: value * OTHER_RATES if isinstance(value, float) else value for name, value in sets[1].items()}
    calls: list[dict[str, Any]] = []
    following: list[list[bytes]] = []
    for which in turns(count):
        given = sets[which]
        arrays = _arrays(call, given)
        mx.eval(arrays)
        calls.append(given)
        following.append(_bytes(arrays))
        fall = 1 - DRIFT if updated and which == 0 else 1.0
        after = dict(zip(given, next_step(given, given.values(), fall), strict=True))
        sets[which] = _drifted(after, rng) | dict(zip(updated, arrays, strict=False))
    # In another order, and each after a call with other contents, so that nothing follows what it followed before.
    alone = []
    for given in reversed(calls):
        _evaluated(call, _shuffled(values, rng))
        alone.append(_evaluated(call, _made(given, 1.0)))
    return sum(one != other for one, other in zip(following, reversed(alone), strict=True))


def _shuffled(values: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same values, the elements of each array in another order."""

    def other(value: Any) -> Any:
        if not isinstance(value, mx.array) or not value.ndim:
            return value
        return value.reshape(-1)[mx.array(rng.permutation(value.size))].reshape(value.shape)

    return _new({name: other(value) for name, value in values.items()})


def _drifted(values: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Every floating element of the arrays a little larger or smaller."""

    def other(value: mx.array) -> mx.array:
        noise = mx.array(rng.standard_normal(value.shape).astype(np.float32))
        return (value * (1 + DRIFT * noise)).astype(value.dtype)

    return _new({name: other(value) if is_float(value) else value for name, value in values.items()})


def _new(values: dict[str, Any]) -> dict[str, Any]:
    """The same, with all arrays evaluated."""
    mx.eval([value for value in values.values() if isinstance(value, mx.array)])
    return values


def times(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The same with arrays of floating numbers times this factor."""
    return {name: value * factor if is_float(value) else value for name, value in values.items()}


def _made(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Other arrays, times this factor, that are evaluated."""
    return _new(times(values, factor))


def _arrays(call: Call, values: dict[str, Any]) -> list[mx.array]:
    returned, gradients = call(values)
    return [each for each in (*listed(returned), *gradients.values()) if isinstance(each, mx.array)]


def _evaluated(call: Call, values: dict[str, Any]) -> list[bytes]:
    arrays = _arrays(call, values)
    mx.eval(arrays)
    return _bytes(arrays)


def _bytes(arrays: list[mx.array]) -> list[bytes]:
    return [to_numpy(each).tobytes() for each in arrays]
