"""One small call made many times: does it always give the same bits, whatever other calls are in flight, and does
memory grow?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.checks.judge import is_float, listed
from autoresearch_trainer.probe.memory import PARTS, Growth, allocated, no_collection

_monotonic = time.monotonic
REPEAT_SECONDS = 0.4
# Calls whose results are all wanted at once, as a graph of many layers has them.
IN_FLIGHT = 64

# What a call returns, and the gradients by argument, for the values of all arguments.
Call = Callable[[dict[str, Any]], tuple[Any, dict[str, mx.array]]]


@dataclass(frozen=True)
class Repeated:
    """calls: made; strayed: of them gave other bits than the first. leaked: bytes by which the memory in use grew with
    each call. crossed: of calls with other contents, all evaluated at once, those that gave other bits than by
    themselves."""

    calls: int = 0
    strayed: int = 0
    leaked: float = 0.0
    crossed: int = 0


def repeat(call: Call, values: Mapping[str, Any], count: int) -> Repeated:
    """At most `count` calls in at most REPEAT_SECONDS, every other one with new arrays, as a trainer makes them."""

    def results(number: int) -> list[bytes]:
        return _evaluated(call, _times(values, 1.0) if number % 2 else dict(values))

    first = results(0)
    made = strayed = 0
    growth = Growth(lambda: allocated() + mx.get_active_memory())
    with no_collection():
        began = _monotonic()
        growth.read(made)
        for part in range(1, PARTS + 1):
            end = began + REPEAT_SECONDS * part / PARTS
            while made < count * part / PARTS and _monotonic() < end:
                strayed += results(made) != first
                made += 1
            growth.read(made)
    return Repeated(made, strayed, growth.per_call(), _crossed(call, values, min(made, IN_FLIGHT)))


def _crossed(call: Call, values: Mapping[str, Any], count: int) -> int:
    """How many calls differ when none is evaluated before all are made, from the same calls one after the other."""
    given = [_times(values, 1 + number / count) for number in range(count)]
    alone = [_evaluated(call, each) for each in given]
    flying = [_arrays(call, each) for each in given]
    mx.eval(flying)
    return sum(_bytes(arrays) != one for arrays, one in zip(flying, alone, strict=True))


def _times(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Other arrays, whose floating numbers are times this factor."""
    found = {name: value * factor if is_float(value) else value for name, value in values.items()}
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
