"""Reads the trace that PyTorch's profiler writes (Chrome's trace format, JSON, gzipped or not).

On a GPU, NVIDIA's, AMD's or another, a kernel names the runtime call that launched it by `correlation`, or the operator
by `External id`; the call's thread and time say in which range it was made. On a CPU the operators themselves are the
work. A backward operator carries the sequence number of its forward one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.json_stream import events
from autoresearch_lab.trace.timeline import DeviceWork, Range, Thread, Timeline

# What the file says of one moment; it is foreign, so every key may be missing.
Event = Mapping[str, Any]
# Kineto's categories, and those of PyTorch up to 1.9.
_KINDS = {"kernel": "kernel", "gpu_memcpy": "copy", "memcpy": "copy", "gpu_memset": "set", "memset": "set"}
_KINDS |= {"concurrent_kernel": "kernel", "mtia_ccp_events": "kernel"}
_OPEN = 1 << 62
_OPERATORS = ("cpu_op", "operator")
_VERSIONS = ("cuda_driver_version", "cuda_runtime_version", "hip_runtime_version")


def read(path: Path, on_gpu: bool | None = None) -> Timeline:
    """The trace's ranges, and what the devices did; with on_gpu False, what the operators did. None: what the operators
    did where the trace has no device's work.

    Raises:
        LabError: the file cannot be read or is not such a trace.
    """
    about: dict[str, Any] = {}
    found = _Collected()
    try:
        for event in events(path, about):
            if event.get("ph") == "X":
                found.take(event)
            elif event.get("ph") == "M":
                found.name(event)
    except (AttributeError, TypeError) as error:
        raise LabError(f"trace-profile: {path} is not a trace of PyTorch's profiler ({error})") from None
    if on_gpu is None:
        on_gpu = bool(found.work)
    work = found.launched() if on_gpu else _operators(found.operators)
    last = max(
        max((one.end for one in work), default=0), max((one.end for one in found.ranges if one.end < _OPEN), default=0)
    )
    ranges = [one if one.end < _OPEN else one._replace(end=max(one.start, last)) for one in found.ranges]
    versions = [f"{key.removesuffix('_version')} {about[key]}" for key in _VERSIONS if key in about]
    return Timeline(
        ranges, work, found.operators, _devices(about), found.processes, ", ".join(versions) or None,
        found.remarks(),
    )  # fmt: skip


class _Collected:
    """What of the file's events matters here, without the events."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []
        self.operators: list[Range] = []
        self.processes: dict[Hashable, str] = {}
        # Name, kind, start, end, device, stream, correlation, External id.
        self.work: list[tuple[Any, ...]] = []
        self._calls: dict[Hashable, tuple[Thread, int]] = {}
        # Further calls with a correlation id that another process used before.
        self._others: dict[Hashable, list[tuple[Thread, int]]] = {}
        # Of each operator.
        self._externals: list[Hashable] = []
        self._same: dict[Any, Any] = {}
        self._timeless = self._endless = 0

    def take(self, event: Event) -> None:
        """One event with a duration."""
        category = str(event.get("cat")).lower()
        kind = _KINDS.get(category)
        is_call = category.endswith(("_runtime", "_driver")) or category == "runtime"
        is_operator = category in _OPERATORS
        if not (kind or is_call or is_operator or category == "user_annotation"):
            return
        try:
            start = round(float(event["ts"]) * 1e3)
            taken = event.get("dur")
            end = None if taken is None or not math.isfinite(float(taken)) else start + round(float(taken) * 1e3)
        except (KeyError, TypeError, ValueError, OverflowError):
            self._timeless += 1
            return
        about = event.get("args") or {}
        correlation, external = about.get("correlation"), about.get("External id", about.get("external id"))
        if kind:
            if end is None:
                self._endless += 1
                return
            place = (about.get("device", event.get("pid")), about.get("stream", event.get("tid")))
            self.work.append((self._once(str(event.get("name"))), kind, start, end, *place, correlation, external))
            return
        thread = self._once((event.get("pid"), event.get("tid")))
        if is_call:
            if correlation is not None:
                known = self._calls.setdefault(correlation, (thread, start))
                if known[0][0] != thread[0]:
                    self._others.setdefault(correlation, []).append((thread, start))
            return
        name = self._once(str(event.get("name")))
        if not is_operator:
            self.ranges.append(Range(name, thread, start, _OPEN if end is None else end))
            return
        self._externals.append(external)
        backward = bool(about.get("Fwd thread id", about.get("fwd thread id")))
        sequence = about.get("Sequence number", about.get("sequence number"))
        self.operators.append(Range(name, thread, start, start if end is None else end, sequence, backward))

    def name(self, event: Event) -> None:
        """A name for a process."""
        label = (event.get("args") or {}).get("name")
        if event.get("name") == "process_name" and isinstance(label, str) and isinstance(event.get("pid"), int):
            self.processes[event["pid"]] = label

    def launched(self) -> list[DeviceWork]:
        """The work with its launches. What has none belongs to the process that alone uses its device."""
        launches = [self._launch(one) for one in self.work]
        users: dict[Hashable, set[Hashable]] = defaultdict(set)
        for (*_, device, _, _, _), by in zip(self.work, launches, strict=True):
            if by is not None:
                users[device].add(by[0][0])
        everyone = {thread[0] for thread, _ in chain(self._calls.values(), *self._others.values())}
        found = []
        for (name, kind, start, end, device, stream, correlation, _), by in zip(self.work, launches, strict=True):
            thread, launched = by or (None, None)
            alone = users.get(device, everyone)
            process = thread[0] if thread else next(iter(alone)) if len(alone) == 1 else None
            call = correlation if correlation in self._calls else None
            found.append(
                DeviceWork(name, kind, start, end, end - start, thread, launched, process, device, stream, call)
            )
        return found

    def _launch(self, work: tuple[Any, ...]) -> tuple[Thread, int] | None:
        *_, start, _, _, _, correlation, external = work
        known = self._calls.get(correlation)
        if known is None:
            return self._by_external.get(external)
        # The ids of several processes in one file may be the same: the last call before the work is meant.
        several = (known, *self._others.get(correlation, ()))
        return max(several, key=lambda call: (call[1] <= start, call[1]))

    @cached_property
    def _by_external(self) -> dict[Hashable, tuple[Thread, int]]:
        """Where operators began, by their ids; asked for where calls are missing."""
        found: dict[Hashable, tuple[Thread, int]] = {}
        for external, one in zip(self._externals, self.operators, strict=True):
            if external is not None:
                found.setdefault(external, (one.thread, one.start))
        return found

    def remarks(self) -> list[str]:
        told = []
        if self._timeless:
            told.append(f"{self._timeless} events have no time that is a number: they are left out")
        if self._endless:
            told.append(f"{self._endless} pieces of the device's work have no end: they are left out")
        if self._others:
            text = "correlation ids are used by several processes: the last call before the work counts"
            told.append(f"{len(self._others)} {text}")
        return told

    def _once(self, value: Any) -> Any:
        """One object for equal ones: names and threads come back a million times."""
        return self._same.setdefault(value, value)


def _devices(about: Mapping[str, Any]) -> dict[Hashable, str]:
    listed = about.get("deviceProperties")
    listed = listed if isinstance(listed, list) else []
    return {one["id"]: one["name"] for one in listed if isinstance(one, dict) and one.get("name") and "id" in one}


def _operators(operators: Iterable[Range]) -> list[DeviceWork]:
    """Every operator with the time that it did not spend in another one."""
    threads: dict[Thread, list[tuple[int, int, str]]] = defaultdict(list)
    for one in operators:
        threads[one.thread].append((one.start, one.end, one.name))
    found = []
    for thread, listed in threads.items():
        listed.sort(key=lambda one: (one[0], -one[1]))
        own = [end - start for start, end, _ in listed]
        stack: list[int] = []
        for place, (start, end, _) in enumerate(listed):
            while stack and listed[stack[-1]][1] <= start:
                stack.pop()
            if stack:
                own[stack[-1]] -= min(end, listed[stack[-1]][1]) - start
            stack.append(place)
        for (start, end, name), own_ns in zip(listed, own, strict=True):
            found.append(
                DeviceWork(name, "operator", start, end, max(0, own_ns), thread, start, thread[0], "CPU", thread[1])
            )
    return found
