"""Writes a trace's steps for Perfetto (Chrome's format, gzipped): per device a lane of owners over those of its
streams, per process a lane of steps over those of its threads' ranges. What is outside the steps is left out."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import files_at_hand
from autoresearch_lab.trace.survey import Attributed

Event = dict[str, Any]
# The lanes that say whose the time is come first.
_FIRST = 0


def write(attributed: Attributed, path: Path) -> None:
    """Write it whole or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with files_at_hand(f"trace-profile: cannot write {path}"):
        try:
            with gzip.open(draft, "wt", encoding="utf-8", compresslevel=5) as file:
                file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
                for count, event in enumerate(_events(attributed)):
                    file.write((",\n" if count else "") + json.dumps(event, allow_nan=False))
                file.write("\n]}\n")
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


class _Lanes:
    """Numbers for processes and lanes, as the format wants them, told at their first use."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, int] = {}
        self._lanes: dict[tuple[int, Hashable], int] = {}
        self.told: list[Event] = []

    def lane(self, group: str, name: str, first: bool = False) -> tuple[int, int]:
        pid = self._groups.get(group)
        if pid is None:
            pid = self._groups[group] = len(self._groups) + 1
            self.told.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": group}})
        tid = self._lanes.get((pid, name))
        if tid is None:
            tid = self._lanes[pid, name] = len(self._lanes) + 1
            about: Event = {"ph": "M", "pid": pid, "tid": tid}
            self.told.append({**about, "name": "thread_name", "args": {"name": name}})
            order = _FIRST if first else tid
            self.told.append({**about, "name": "thread_sort_index", "args": {"sort_index": order}})
        return pid, tid


def _events(attributed: Attributed) -> Iterator[Event]:
    lanes = _Lanes()
    every = [window for windows in (*attributed.steps.of.values(), attributed.steps.common) for window in windows]
    origin = min(start for start, _ in every)
    last = max([end for _, end in every] + [one.end for one in attributed.work])

    def slice_of(lane: tuple[int, int], name: str, start: int, end: int, **about: Any) -> Event:
        times = {"ts": (start - origin) / 1e3, "dur": (min(end, last) - start) / 1e3}
        return {"ph": "X", "name": name, "pid": lane[0], "tid": lane[1], **times, "args": about}

    if attributed.steps.found:
        for process, windows in attributed.steps.of.items():
            for number, (start, end) in enumerate(windows):
                yield slice_of(lanes.lane(f"process {process}", "steps", first=True), f"step {number}", start, end)
    for one in attributed.ranges:
        windows = attributed.steps.windows(one.thread[0])
        if windows and one.end > windows[0][0] and one.start < windows[-1][1]:
            thread = "ranges of the process" if one.thread[1] is None else f"thread {one.thread[1]}"
            start = max(one.start, windows[0][0])
            yield slice_of(lanes.lane(f"process {one.thread[0]}", thread), one.name, start, one.end)
    open_slices: dict[tuple[int, int], tuple[str, int, int]] = {}
    order = sorted(range(len(attributed.work)), key=lambda place: attributed.work[place].start)
    for place in order:
        piece, owner, target = attributed.work[place], attributed.owners[place], attributed.targets[place]
        group = f"device {piece.device}, process {piece.process}"
        innermost = owner.names[-1] if owner.names else None
        direction = "backward" if owner.backward else "forward"
        yield slice_of(
            lanes.lane(group, f"stream {piece.stream}"), piece.name, piece.start, piece.end,
            kind=piece.kind, range=innermost, target=target, direction=direction,
        )  # fmt: skip
        whose = target or innermost
        lane = lanes.lane(group, f"owners, stream {piece.stream}", first=True)
        name = "nobody" if whose is None else f"{whose} {direction}"
        before = open_slices.get(lane)
        if before is not None and before[0] == name:
            open_slices[lane] = (name, before[1], max(before[2], piece.end))
            continue
        if before is not None:
            yield slice_of(lane, before[0], before[1], min(before[2], max(piece.start, before[1])))
        open_slices[lane] = (name, piece.start, piece.end)
    for lane, (name, start, end) in open_slices.items():
        yield slice_of(lane, name, start, end)
    yield from lanes.told
