"""What both engines find out by making one small call many times, and how the calls are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoresearch_trainer.probe.memory import PARTS, Growth, no_collection

_monotonic = time.monotonic
REPEAT_SECONDS = 0.4
# Calls whose results are all wanted at once, as a model of many layers has them.
IN_FLIGHT = 64


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
