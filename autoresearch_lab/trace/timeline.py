"""A trace, whichever tool took it, as ranges and work; and which ranges were open when a piece of work was launched.

Times are whole nanoseconds of one clock. A *range* is open on one thread. A piece of *work* is what a device did: a
kernel, a copy, a fill; on a CPU an operator of PyTorch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from autoresearch_trainer.probe.steps import PHASES, STEP

# (process, thread); thread None: the range is its whole process's.
Thread = tuple[Hashable, Hashable]
# Kinds of work that compute nothing.
MOVES = ("copy", "set", "migration")


# Tuples, since a trace has a million of each.
class Range(NamedTuple):
    """sequence: PyTorch's number of the forward operator that an operator is, or, where backward, belongs to."""

    name: str
    thread: Thread
    start: int
    end: int
    sequence: int | None = None
    backward: bool = False


class DeviceWork(NamedTuple):
    """start, end: on the device. own_ns: its duration, of an operator without the operators inside it. thread,
    launched: where and when the host launched it; None = the trace does not say. kind: kernel, copy, set, graph,
    operator, or migration: pages of managed memory that moved because they were touched, so that no call launched them.
    call: which call of its process launched it; a CUDA graph's launches a lot of work."""

    name: str
    kind: str
    start: int
    end: int
    own_ns: int
    thread: Thread | None = None
    launched: int | None = None
    process: Hashable = None
    device: Hashable = None
    stream: Hashable = None
    call: Hashable = None

    @property
    def moment(self) -> int:
        """When it was launched, or began where that is unknown."""
        return self.start if self.launched is None else self.launched


@dataclass(frozen=True)
class Timeline:
    """ranges: the user's; operators: PyTorch's, where the trace has them. devices, processes: their names. remarks:
    what the file lacks."""

    ranges: list[Range]
    work: list[DeviceWork]
    operators: list[Range] = field(default_factory=list)
    devices: dict[Hashable, str] = field(default_factory=dict)
    processes: dict[Hashable, str] = field(default_factory=dict)
    tool_version: str | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(start, end) of every traced step in order; the trace's whole extent where it has no such ranges."""
        found = sorted((one.start, one.end) for one in self.ranges if one.name == STEP)
        return found or extent(self.work)


def extent(work: Sequence[DeviceWork]) -> list[tuple[int, int]]:
    """From the first launch to the end of all work; empty without work."""
    return [(min(min(one.moment, one.start) for one in work), max(one.end for one in work))] if work else []


def launch_points(work: Iterable[DeviceWork]) -> list[tuple[Hashable, int] | None]:
    """(thread, moment) of every launch; None where the trace does not say who launched it."""
    return [None if one.thread is None or one.launched is None else (one.thread, one.launched) for one in work]


def by_thread(ranges: Iterable[Range]) -> dict[Hashable, list[Range]]:
    threads: dict[Hashable, list[Range]] = defaultdict(list)
    for one in ranges:
        threads[one.thread].append(one)
    return threads


def enclosing(
    ranges: Mapping[Hashable, Iterable[Range]], points: Sequence[tuple[Hashable, int] | None]
) -> list[tuple[Range, ...]]:
    """Per (key, moment) the ranges of that key that were open, the last opened last. Points between two changes share
    one tuple."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, point in enumerate(points):
        if point is not None and point[0] in ranges:
            places[point[0]].append(place)
    found: list[tuple[Range, ...]] = [()] * len(points)
    moments = [0 if point is None else point[1] for point in points]
    for key, listed in places.items():
        waiting = sorted(ranges[key], key=lambda one: (-one.start, one.end))
        chain: tuple[Range, ...] = ()
        soonest = 0
        for place in sorted(listed, key=moments.__getitem__):
            moment = moments[place]
            entered = []
            while waiting and waiting[-1].start <= moment:
                one = waiting.pop()
                if one.end >= moment:
                    entered.append(one)
            if entered or (chain and soonest < moment):
                chain = (*(one for one in chain if one.end >= moment), *entered)
                soonest = min((one.end for one in chain), default=0)
            found[place] = chain
    return found


def within(moment: int, windows: Sequence[tuple[int, int]]) -> bool:
    """Whether it lies in one of the windows, which are in order and apart."""
    place = bisect_right(windows, (moment, 1 << 63)) - 1
    return place >= 0 and moment <= windows[place][1]


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
