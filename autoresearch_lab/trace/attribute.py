"""Whose time the device's was: adds up a timeline's work by target, phase, kind and kernel."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autoresearch_lab.results.trace import DeviceTimes, KernelTime, TargetTime
from autoresearch_lab.trace.timeline import (
    PhaseClock,
    Range,
    Timeline,
    by_thread,
    covered,
    enclosing,
    launch_points,
    within,
)
from autoresearch_trainer.probe.steps import PHASES, STEP, target_of

BUSIEST = 25
NAME_LENGTH = 160


@dataclass
class _Target:
    """Nanoseconds of one target over all traced steps; see schema.TargetTime."""

    own: Counter[str] = field(default_factory=Counter)
    total: int = 0
    calls: int = 0
    launches: int = 0


@dataclass
class _Kernel:
    kind: str
    ns: int = 0
    calls: int = 0
    under: Counter[str] = field(default_factory=Counter)


def attribute(timeline: Timeline, steps: int) -> DeviceTimes:
    """What was launched within the traced steps, in ms per step.

    A piece of work belongs to the innermost range of a target that was open on the launching thread. steps: how many
    were traced, for a trace that has no ranges of steps.
    """
    windows = timeline.steps
    count = sum(one.name == STEP for one in timeline.ranges) or steps
    work = [piece for piece in timeline.work if within(piece.moment, windows)]
    chains = enclosing(by_thread(timeline.ranges), launch_points(work))
    clock = PhaseClock(timeline.ranges)
    targets = _calls(timeline.ranges, windows)
    kernels: dict[tuple[str, str], _Kernel] = {}
    phases: Counter[str] = Counter(dict.fromkeys((*PHASES, "other"), 0))
    outside = phases.copy()
    kinds: Counter[str] = Counter()
    unlaunched = 0
    for piece, chain in zip(work, chains, strict=True):
        phase = clock.at(piece.moment)
        phases[phase] += piece.own_ns
        kinds[piece.kind] += piece.own_ns
        unlaunched += piece.own_ns if piece.launched is None else 0
        named = [(one.name, found) for one in chain if (found := target_of(one.name)) is not None]
        for target in {target for _, (target, _) in named}:
            targets[target].total += piece.own_ns
        kernel = kernels.setdefault((piece.name[:NAME_LENGTH], piece.kind), _Kernel(piece.kind))
        kernel.ns += piece.own_ns
        kernel.calls += 1
        if not named:
            outside[phase] += piece.own_ns
            continue
        name, (target, backward) = named[-1]
        direction = "backward" if backward else "optimizer" if phase == "optimizer" else "forward"
        targets[target].own[direction] += piece.own_ns
        targets[target].launches += 1
        kernel.under[name] += piece.own_ns
    ms = 1e6 * count
    device, unattributed = sum(kinds.values()), sum(outside.values())
    wall = sum(end - start for start, end in windows)
    busy = covered(((piece.start, piece.end) for piece in work), windows)
    return DeviceTimes(
        steps=count,
        step_ms=wall / ms,
        device_ms=device / ms,
        busy_ms=busy / ms,
        idle_share=1 - busy / wall if wall else 0.0,
        attributed_ms=(device - unattributed) / ms,
        unattributed_ms=unattributed / ms,
        unattributed_share=unattributed / device if device else 0.0,
        unlaunched_ms=unlaunched / ms,
        unattributed_phases={name: ns / ms for name, ns in outside.items()},
        phases={name: ns / ms for name, ns in phases.items()},
        kinds={name: ns / ms for name, ns in kinds.items()},
        launches_per_step=len(work) / count,
        targets=_target_rows(targets, device, count),
        kernels=_kernel_rows(kernels, device, count),
    )


def _calls(ranges: Iterable[Range], windows: Sequence[tuple[int, int]]) -> dict[str, _Target]:
    """The targets that have ranges within the steps, with their calls: a target whose calls launch nothing shows."""
    targets: dict[str, _Target] = defaultdict(_Target)
    for one in ranges:
        found = target_of(one.name)
        if found is not None and within(one.start, windows):
            targets[found[0]].calls += not found[1]
    return targets


def _target_rows(targets: dict[str, _Target], device: int, steps: int) -> list[TargetTime]:
    ms = 1e6 * steps
    rows = [
        TargetTime(
            target=name,
            forward_ms=target.own["forward"] / ms,
            backward_ms=target.own["backward"] / ms,
            optimizer_ms=target.own["optimizer"] / ms,
            self_ms=target.own.total() / ms,
            total_ms=target.total / ms,
            share=target.own.total() / device if device else 0.0,
            calls_per_step=target.calls / steps,
            launches_per_step=target.launches / steps,
        )
        for name, target in targets.items()
    ]
    return sorted(rows, key=lambda row: (-row.self_ms, row.target))


def _kernel_rows(kernels: dict[tuple[str, str], _Kernel], device: int, steps: int) -> list[KernelTime]:
    busiest = sorted(kernels.items(), key=lambda pair: (-pair[1].ns, pair[0]))[:BUSIEST]
    return [
        KernelTime(
            name=name,
            kind=kernel.kind,
            ms=kernel.ns / (1e6 * steps),
            share=kernel.ns / device if device else 0.0,
            calls_per_step=kernel.calls / steps,
            under=[range_name for range_name, _ in kernel.under.most_common(3)],
        )
        for (name, _), kernel in busiest
    ]
