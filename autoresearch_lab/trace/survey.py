"""What a trace shows that anyone may have taken: device time by kernel, by the user's ranges, by GPU and process."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from autoresearch_lab.trace.owners import Owner, Owners, row_name
from autoresearch_lab.trace.schema import SCHEMA, DeviceRow, IdleGap, KernelRow, OwnerRow, TraceSurvey
from autoresearch_lab.trace.steps import TracedSteps, Windows, device_windows, find_steps, step_pattern
from autoresearch_lab.trace.timeline import DeviceWork, Range, Timeline, covered, extent, within
from autoresearch_trainer.probe.steps import target_of

GAPS = 5
_PYTORCHS = ("enumerate(DataLoader)#", "Optimizer.step#", "Optimizer.zero_grad#")


@dataclass(frozen=True)
class Attributed:
    """A trace's work within its steps, each piece with its owner and its target (None: no target's)."""

    timeline: Timeline
    steps: TracedSteps
    ranges: list[Range]
    work: list[DeviceWork]
    owners: list[Owner]
    targets: list[str | None]


@dataclass
class _Sums:
    """ms per step, but calls and launches, which are numbers per step."""

    forward: float = 0.0
    backward: float = 0.0
    total: float = 0.0
    host: float = 0.0
    calls: float = 0.0
    launches: float = 0.0
    under: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    devices: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))


def attribute_all(
    timeline: Timeline, steps: re.Pattern[str] | None, mapped: Sequence[tuple[re.Pattern[str], str]] = ()
) -> Attributed:
    """steps: which ranges are steps. mapped: (names of kernels, their target), the first that fits."""
    pattern = step_pattern(timeline.ranges, steps)
    found = find_steps(timeline, pattern)
    ranges = [one for one in timeline.ranges if not pattern.fullmatch(one.name)]
    # An annotated trace need not have ranges of the user's own: PyTorch's operators are ranges, too.
    if not _own(ranges) and timeline.work[0].kind != "operator":
        ranges = [*ranges, *timeline.operators]
    work = [one for one in timeline.work if within(one.moment, found.windows(one.process))]
    if not work:  # the steps of a trace in which other threads work
        found = TracedSteps(dict.fromkeys(found.of, extent(timeline.work)), extent(timeline.work), found=False)
        work = timeline.work
    owners = Owners(timeline, ranges).of(work)
    named: dict[str, str | None] = {}
    for name in {one.name for one in work}:
        named[name] = next((target for fits, target in mapped if fits.search(name)), None)
    targets = [named[one.name] or _target(owner) for one, owner in zip(work, owners, strict=True)]
    return Attributed(timeline, found, ranges, work, owners, targets)


def _own(ranges: Iterable[Range]) -> bool:
    """Whether some are the user's own; PyTorch opens ranges around optimizers and loaders by itself."""
    return any(not one.name.startswith(_PYTORCHS) for one in ranges)


def _target(owner: Owner) -> str | None:
    return next((name for name in reversed(owner.names) if target_of(name)), None)


def survey(attributed: Attributed, name: str, tool: str) -> TraceSurvey:
    """name: of the file."""
    timeline, steps = attributed.timeline, attributed.steps
    kernels: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    rows: dict[str, _Sums] = defaultdict(_Sums)
    targets: dict[str, _Sums] = defaultdict(_Sums)
    labels = _labels(attributed)
    for (kernel, kind, process, device, target, _), group in _groups(attributed).items():
        owner = group.owner
        per_step = 1 / steps.count(process)
        ms = group.ns / 1e6 * per_step
        sums = kernels[kernel, kind]
        sums.total += ms
        sums.calls += group.pieces * per_step
        sums.devices[labels[process, device]] += ms
        innermost = owner.names[-1] if owner.names else None
        sums.under[innermost or ""] += ms
        for table, key in ((rows, innermost), (targets, target)):
            if key is not None:
                sums = table[key]
                sums.backward += ms if owner.backward else 0.0
                sums.forward += 0.0 if owner.backward else ms
                sums.launches += group.launches * per_step
        for outer in set(owner.names):
            rows[outer].total += ms
        if target is not None:
            targets[target].total += ms
    _add_calls(rows, attributed)
    for key, sums in targets.items():
        sums.calls = rows[key].calls if key in rows else 0.0
    device_ms = sum(sums.total for sums in kernels.values())
    remarks = [*timeline.remarks, *_remarks(attributed)]
    return TraceSurvey(
        schema=SCHEMA, file=name, tool=tool, tool_version=timeline.tool_version,
        steps=max((steps.count(process) for process in {one.process for one in attributed.work}), default=0),
        unit="step" if steps.found else "trace",
        device_ms=device_ms,
        attributed_share=sum(one.forward + one.backward for one in rows.values()) / device_ms if device_ms else 0.0,
        devices=_device_rows(attributed, labels),
        kernels=_kernel_rows(kernels, device_ms),
        ranges=_owner_rows(rows, device_ms),
        targets=_owner_rows(targets, device_ms),
        remarks=remarks,
    )  # fmt: skip


@dataclass
class _Group:
    """Pieces of one kernel on one device with one owner. launches: calls that launched some of them."""

    owner: Owner
    ns: int = 0
    pieces: int = 0
    launches: int = 0


def _groups(attributed: Attributed) -> dict[tuple[Any, ...], _Group]:
    """A million pieces are a few hundred of these; by kernel, kind, process, device and target."""
    groups: dict[tuple[Any, ...], _Group] = {}
    seen: set[tuple[Hashable, Hashable]] = set()
    for one, owner, target in zip(attributed.work, attributed.owners, attributed.targets, strict=True):
        key = (one.name, one.kind, one.process, one.device, target, id(owner))
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(owner)
        group.ns += one.own_ns
        group.pieces += 1
        call = (one.process, one.call)
        if one.kind != "migration" and (one.call is None or call not in seen):
            seen.add(call)
            group.launches += 1
    return groups


def _add_calls(rows: dict[str, _Sums], attributed: Attributed) -> None:
    """How often the ranges were entered within the steps, and the host's time in them."""
    for one in attributed.ranges:
        process = one.thread[0]
        windows = attributed.steps.windows(process)
        if not attributed.steps.found or within(one.start, windows):
            name, backward = row_name(one.name)
            per_step = 1 / attributed.steps.count(process)
            rows[name].calls += 0.0 if backward else per_step
            rows[name].host += (max(min(one.end, windows[-1][1]), one.start) - one.start) / 1e6 * per_step


def _labels(attributed: Attributed) -> dict[tuple[Hashable, Hashable], str]:
    """Names for devices; with the process where there are several."""
    pairs = {(one.process, one.device): None for one in attributed.work}
    several = len({process for process, _ in pairs}) > 1
    labels = {}
    for process, device in pairs:
        label = "device" if device is None else str(device) if device == "CPU" else f"GPU {device}"
        labels[process, device] = f"{label}, process {'?' if process is None else process}" if several else label
    return labels


def _device_rows(attributed: Attributed, labels: Mapping[tuple[Hashable, Hashable], str]) -> list[DeviceRow]:
    pieces: dict[tuple[Hashable, Hashable], list[DeviceWork]] = defaultdict(list)
    everything: dict[tuple[Hashable, Hashable], list[DeviceWork]] = defaultdict(list)
    for table, work in ((pieces, attributed.work), (everything, attributed.timeline.work)):
        for one in work:
            table[one.process, one.device].append(one)
    rows = []
    for key, work in pieces.items():
        process, device = key
        windows = device_windows(attributed.steps.windows(process), work)
        rows.append(_device_row(labels[key], attributed, process, device, work, everything[key], windows))
    return sorted(rows, key=lambda row: row.name)


def _device_row(
    label: str, attributed: Attributed, process: Hashable, device: Hashable, work: list[DeviceWork],
    everything: list[DeviceWork], windows: Windows,
) -> DeviceRow:  # fmt: skip
    steps = attributed.steps.count(process)
    wall = sum(end - start for start, end in windows)
    busy = covered(((one.start, one.end) for one in everything), windows)
    gaps, host = _idle(everything, windows)
    known = device != "CPU" and any(one.launched is not None for one in work)
    kinds: Counter[str] = Counter()
    for one in work:
        kinds[one.kind] += one.own_ns
    calls = {one.call for one in work if one.call is not None}
    unknown = sum(one.call is None and one.kind != "migration" for one in work)
    origin = windows[0][0] if windows else 0
    longest = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:GAPS]
    return DeviceRow(
        name=label,
        model=attributed.timeline.devices.get(device),
        process=attributed.timeline.processes.get(process),
        streams=len({one.stream for one in work}),
        step_ms=wall / 1e6 / steps,
        device_ms=sum(kinds.values()) / 1e6 / steps,
        busy_ms=busy / 1e6 / steps,
        idle_share=1 - busy / wall if wall else 0.0,
        host_bound_share=host / wall if wall and known else None,
        kinds={kind: ns / 1e6 / steps for kind, ns in kinds.items()},
        work_per_step=len(work) / steps,
        launches_per_step=(len(calls) + unknown) / steps,
        gaps=[
            IdleGap(at_ms=(start - origin) / 1e6, ms=(end - start) / 1e6, before=after) for start, end, after in longest
        ],
    )


def _idle(work: Iterable[DeviceWork], windows: Windows) -> tuple[list[tuple[int, int, str]], int]:
    """((start, end, what came next) of every gap between work; nanoseconds of the windows in which the device had
    nothing to do because what came next was not launched yet)."""
    gaps, waiting = [], []
    free: int | None = None
    for one in sorted(work, key=lambda piece: piece.start):
        if free is not None and one.start > free:
            if within(free, windows) and within(one.start, windows):
                gaps.append((free, one.start, one.name))
            if one.launched is not None and one.launched > free:
                waiting.append((free, min(one.launched, one.start)))
        elif free is None and one.launched is not None and windows:
            waiting.append((windows[0][0], min(one.launched, one.start)))
        free = one.end if free is None else max(free, one.end)
    return gaps, covered((one for one in waiting if one[0] < one[1]), windows)


def _kernel_rows(kernels: Mapping[tuple[str, str], _Sums], device_ms: float) -> list[KernelRow]:
    rows = [
        KernelRow(
            name=name, kind=kind, ms=sums.total, share=sums.total / device_ms if device_ms else 0.0,
            calls_per_step=round(sums.calls, 9),
            under=[one for one in sorted(sums.under, key=sums.under.__getitem__, reverse=True)[:3] if one],
            devices=dict(sums.devices) if len(sums.devices) > 1 else {},
        )
        for (name, kind), sums in kernels.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.ms, row.name, row.kind))


def _owner_rows(table: Mapping[str, _Sums], device_ms: float) -> list[OwnerRow]:
    rows = [
        OwnerRow(
            name=name, forward_ms=sums.forward, backward_ms=sums.backward, self_ms=sums.forward + sums.backward,
            total_ms=sums.total, share=(sums.forward + sums.backward) / device_ms if device_ms else 0.0,
            host_ms=sums.host, calls_per_step=round(sums.calls, 9), launches_per_step=round(sums.launches, 9),
        )
        for name, sums in table.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.total_ms, -row.host_ms, row.name))


def _remarks(attributed: Attributed) -> list[str]:
    told = []
    if not attributed.steps.found and attributed.steps.of:
        told.append("no work was launched within its steps: the whole trace counts")
    elif not attributed.steps.found:
        told.append("no ranges of steps: its whole extent counts as one (--step REGEX names them)")
    if not _own(attributed.timeline.ranges):
        stand = "; PyTorch's operators stand for them" if attributed.ranges else ""
        told.append(f"the trace has no ranges of the user's own{stand}")
    unknown = sum(one.own_ns for one in attributed.work if one.launched is None and one.kind != "migration")
    total = sum(one.own_ns for one in attributed.work)
    if unknown > 0.01 * total:
        told.append(f"{unknown / total:.0%} of the device time has no launching call in the trace")
    return told
