"""The steps of a trace that anyone may have taken: which ranges they are, and in which of them a moment lies."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.timeline import DeviceWork, Range, Thread, Timeline, extent
from autoresearch_trainer.probe.steps import STEP

# The lab's and those of PyTorch's schedule; where a trace has none, what people call theirs.
STEPS = (
    re.compile(rf"{STEP}|ProfilerStep#\d+"),
    re.compile(r"(?:train(?:ing)?[ _]?)?(?:step|iter(?:ation)?)[ _#:]*\d*", re.IGNORECASE),
)

Windows = list[tuple[int, int]]


@dataclass(frozen=True)
class TracedSteps:
    """of: the windows of each process that has steps of its own; common: of all others. count: steps of a process."""

    of: dict[Hashable, Windows]
    common: Windows
    found: bool

    def windows(self, process: Hashable) -> Windows:
        return self.of.get(process, self.common)

    def count(self, process: Hashable) -> int:
        return len(self.windows(process)) if self.found else 1


def step_pattern(ranges: Sequence[Range], wanted: re.Pattern[str] | None) -> re.Pattern[str]:
    """Which names are those of steps. wanted: what the user says.

    Raises:
        LabError: no range has a name that fits what the user says.
    """
    names = {one.name for one in ranges}
    for pattern in STEPS if wanted is None else (wanted,):
        if any(pattern.fullmatch(name) for name in names):
            return pattern
    if wanted is not None:
        some = ", ".join(sorted(names)[:5]) or "none"
        raise LabError(f"--step '{wanted.pattern}': no range has such a name; the trace's first: {some}")
    return STEPS[0]


def find_steps(timeline: Timeline, pattern: re.Pattern[str]) -> TracedSteps:
    """Steps are the ranges whose whole name fits; of several threads of a process, those of the one that has most. A
    process without any has the steps of the process with most; a trace without any is one step."""
    threads: dict[Thread, Windows] = defaultdict(list)
    for one in timeline.ranges:
        if pattern.fullmatch(one.name):
            threads[one.thread].append((one.start, one.end))
    of: dict[Hashable, Windows] = {}
    for thread, windows in threads.items():
        apart = _apart(windows)
        if len(apart) > len(of.get(thread[0], ())):
            of[thread[0]] = apart
    common = max(of.values(), key=len, default=None)
    return TracedSteps(of, common if common is not None else extent(timeline.work), bool(of))


def _apart(windows: Windows) -> Windows:
    """In order, without those inside others."""
    kept: Windows = []
    for start, end in sorted(windows, key=lambda window: (window[0], -window[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def device_windows(windows: Windows, work: Sequence[DeviceWork]) -> Windows:
    """The host's windows with the last one lengthened to the end of what was launched in them: a device lags behind."""
    if not windows or not work:
        return windows
    start, end = windows[-1]
    return [*windows[:-1], (start, max(end, max(one.end for one in work)))]
