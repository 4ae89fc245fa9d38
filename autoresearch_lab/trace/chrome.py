"""Reads the trace that PyTorch's profiler writes (Chrome's trace format, JSON, gzipped where the name says so).

On a GPU a kernel names the runtime call that launched it by `correlation`, or the operator by `External id`; the call's
thread and time say in which range it was made. On a CPU the operators themselves are the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from autoresearch_common.reading import parse_json, read_bytes, unzipped
from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.timeline import DeviceWork, Range, Timeline

# What the file says of one moment; it is foreign, so every key may be missing.
Event = Mapping[str, Any]
MOST_TRACE_BYTES = 4 << 30
_KINDS = {"kernel": "kernel", "gpu_memcpy": "copy", "gpu_memset": "set"}
_CALLS = ("cuda_runtime", "cuda_driver")


def read(path: Path, on_gpu: bool) -> Timeline:
    """The trace's ranges, and what the device did; with on_gpu False, what the operators did.

    Raises:
        LabError: the file cannot be read or is not such a trace.
    """
    try:
        events = [event for event in _events(path) if event.get("ph") == "X" and "ts" in event]
        ranges = [Range(e["name"], _thread(e), *_times(e)) for e in events if e.get("cat") == "user_annotation"]
        return Timeline(ranges, _launched(events) if on_gpu else _operators(events))
    except FileNotFoundError:
        raise LabError(f"trace-profile: {path} is not there") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise LabError(f"trace-profile: {path} is not a trace of PyTorch's profiler ({error})") from None


def _events(path: Path) -> list[Event]:
    content = read_bytes(path, MOST_TRACE_BYTES)
    plain = unzipped(content, path, MOST_TRACE_BYTES) if content[:2] == b"\x1f\x8b" else content
    return [event for event in parse_json(plain, path)["traceEvents"] if isinstance(event, dict)]


def _thread(event: Event) -> Hashable:
    return (event.get("pid"), event.get("tid"))


def _times(event: Event) -> tuple[int, int]:
    """(start, end) in ns; the file has microseconds."""
    start = round(float(event["ts"]) * 1e3)
    return start, start + round(float(event.get("dur", 0.0)) * 1e3)


def _launched(events: Iterable[Event]) -> list[DeviceWork]:
    calls: dict[Any, tuple[Hashable, int]] = {}
    operators: dict[Any, tuple[Hashable, int]] = {}
    for event in events:
        about, category = event.get("args") or {}, event.get("cat")
        if category in _CALLS and about.get("correlation") is not None:
            calls.setdefault(about["correlation"], (_thread(event), _times(event)[0]))
        elif category == "cpu_op" and about.get("External id") is not None:
            operators.setdefault(about["External id"], (_thread(event), _times(event)[0]))
    found = []
    for event in events:
        kind = _KINDS.get(str(event.get("cat")))
        if kind is None:
            continue
        about, (start, end) = event.get("args") or {}, _times(event)
        by = calls.get(about.get("correlation")) or operators.get(about.get("External id")) or (None, None)
        found.append(DeviceWork(event["name"], kind, start, end, end - start, *by))
    return found


def _operators(events: Iterable[Event]) -> list[DeviceWork]:
    """Every operator with the time that it did not spend in another one."""
    threads: dict[Hashable, list[tuple[int, int, str]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "cpu_op":
            threads[_thread(event)].append((*_times(event), event["name"]))
    found = []
    for thread, operators in threads.items():
        operators.sort(key=lambda one: (one[0], -one[1]))
        own = [end - start for start, end, _ in operators]
        stack: list[int] = []
        for place, (start, end, _) in enumerate(operators):
            while stack and operators[stack[-1]][1] <= start:
                stack.pop()
            if stack:
                own[stack[-1]] -= min(end, operators[stack[-1]][1]) - start
            stack.append(place)
        for (start, end, name), own_ns in zip(operators, own, strict=True):
            found.append(DeviceWork(name, "operator", start, end, max(0, own_ns), thread, start))
    return found
