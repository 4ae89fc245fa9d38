"""A trace, whichever tool took it, as ranges and work; and which range was open when a piece of work was launched.

Times are whole nanoseconds of one clock. A *range* is open on one thread. A piece of *work* is what the device did: a
kernel, a copy, a fill; on a CPU an operator of PyTorch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from autoresearch_trainer.probe.steps import PHASES, STEP


@dataclass(frozen=True)
class Range:
    name: str
    thread: Hashable
    start: int
    end: int


@dataclass(frozen=True)
class DeviceWork:
    """start, end: on the device. own_ns: its duration, of an operator without the operators inside it. thread,
    launched: where and when the host launched it; None = the trace does not say. kind: kernel, copy, set, graph or
    operator."""

    name: str
    kind: str
    start: int
    end: int
    own_ns: int
    thread: Hashable | None = None
    launched: int | None = None

    @property
    def moment(self) -> int:
        """When it was launched, or began where that is unknown."""
        return self.start if self.launched is None else self.launched


@dataclass(frozen=True)
class Timeline:
    ranges: list[Range]
    work: list[DeviceWork]

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(start, end) of every traced step in order; the trace's whole extent where it has no such ranges."""
        found = sorted((one.start, one.end) for one in self.ranges if one.name == STEP)
        if found or not self.work:
            return found
        return [(min(min(one.moment, one.start) for one in self.work), max(one.end for one in self.work))]


def enclosing(ranges: Iterable[Range], work: Sequence[DeviceWork]) -> list[tuple[str, ...]]:
    """Per piece of work, the names of the ranges that were open on the launching thread, the innermost last; empty
    where the trace does not say who launched it."""
    opened: dict[Hashable, list[Range]] = defaultdict(list)
    for one in ranges:
        opened[one.thread].append(one)
    launched: dict[Hashable, list[int]] = defaultdict(list)
    for place, piece in enumerate(work):
        if piece.thread is not None and piece.launched is not None:
            launched[piece.thread].append(place)
    found: list[tuple[str, ...]] = [()] * len(work)
    for thread, places in launched.items():
        waiting = sorted(opened[thread], key=lambda one: (one.start, -one.end))[::-1]
        stack: list[Range] = []
        for place in sorted(places, key=lambda place: work[place].moment):
            moment = work[place].moment
            while waiting and waiting[-1].start <= moment:
                entered = waiting.pop()
                while stack and stack[-1].end <= entered.start:
                    stack.pop()
                stack.append(entered)
            while stack and stack[-1].end < moment:
                stack.pop()
            found[place] = tuple(one.name for one in stack)
    return found


class PhaseClock:
    """Which phase of the step it was at a moment. Phases follow one another, whichever thread launches the work: the
    backward pass of a GPU runs in a thread of its own, while the one that has the range waits."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._phases = sorted((one.start, one.end, one.name) for one in ranges if one.name in PHASES)
        self._starts = [start for start, _, _ in self._phases]

    def at(self, moment: int) -> str:
        """One of PHASES, else "other"."""
        place = bisect_right(self._starts, moment) - 1
        return self._phases[place][2] if place >= 0 and moment <= self._phases[place][1] else "other"


def covered(intervals: Iterable[tuple[int, int]], windows: Sequence[tuple[int, int]]) -> int:
    """Nanoseconds of the windows (in order, apart) in which at least one of the intervals lies."""
    total = place = 0
    end = None
    for start, stop in sorted(intervals):
        start = start if end is None else max(start, end)
        if stop <= start:
            continue
        end = stop
        while place < len(windows) and windows[place][1] <= start:
            place += 1
        later = place
        while later < len(windows) and windows[later][0] < stop:
            total += max(0, min(stop, windows[later][1]) - max(start, windows[later][0]))
            later += 1
    return total
