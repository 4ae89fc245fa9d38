"""What both engines find out by making one small call many times, and how the calls are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from autoresearch_trainer.jobs.calls import COUNTED
from autoresearch_trainer.probe.memory import PARTS, Growth, no_collection

_monotonic = time.monotonic
REPEAT_SECONDS = 0.4
# Calls whose results are all wanted at once, as a model of many layers has them; and how many bytes at most are held
# by calls that are kept.
IN_FLIGHT, MOST_HELD = 64, 1 << 30
# Calls that follow each other as in a training, and by how much what they are given changes from one to the next.
FEWEST_FOLLOWING, FOLLOWING, FOLLOWING_SECONDS, DRIFT = 2, 8, 1.0, 2.0**-8
# By so much another group of parameters has smaller rates.
OTHER_RATES = 0.95


@dataclass(frozen=True)
class Repeated:
    """calls: made; strayed: of them gave other bits than the first; late: of those the ones that were made as a day
    later in a training. leaked: bytes by which the memory in use grew with each call. crossed: of calls with other
    contents, all in flight at once, those that gave other bits than by themselves. followed: of calls on what the one
    before left, those that gave other bits than by themselves. apart: whether arguments that an operator returned give
    other bits than leaves."""

    calls: int = 0
    strayed: int = 0
    late: int = 0
    leaked: float = 0.0
    crossed: int = 0
    followed: int = 0
    apart: bool = False


def many_times(once: Callable[[int], bool], count: int, seconds: float, growths: Sequence[Growth]) -> tuple[int, int]:
    """(calls made, those that were not as they should be): at most `count` in at most so many seconds. once: makes the
    call of that number and says whether it is. growths: read before the calls and after each part of them."""
    made = wrong = 0
    with no_collection():
        began = _monotonic()
        for growth in growths:
            growth.read(made)
        for part in range(1, PARTS + 1):
            end = began + seconds * part / PARTS
            while made < count * part / PARTS and _monotonic() < end:
                wrong += not once(made)
                made += 1
            for growth in growths:
                growth.read(made)
    return made, wrong


def following_calls(seconds: float, size: int) -> int:
    """How many calls of one set of arguments follow each other, where one takes so long, and has so many bytes of
    arguments and results."""
    most = min(FOLLOWING, int(FOLLOWING_SECONDS / (6 * seconds)), MOST_HELD // (2 * max(1, size)))
    return max(FEWEST_FOLLOWING, most // 2 * 2)


def turns(count: int) -> list[int]:
    """Which of two sets of arguments each call has that follows another: by turns, as two parameters of one shape have,
    then the first alone."""
    return [0, 1] * (count // 2) + [0] * count


def next_step(names: Iterable[str], arguments: Iterable[Any], fall: float) -> list[Any]:
    """The arguments with the numbers of the next step: its count, and real numbers times `fall`."""
    return [
        value + 1 if name in COUNTED else value * fall if isinstance(value, float) else value
        for name, value in zip(names, arguments, strict=True)
    ]
