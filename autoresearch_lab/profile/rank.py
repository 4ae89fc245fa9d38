"""Ranks targets by the time that could be saved: what they take now, less the least that this machine allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoresearch_common.workload import HasArguments, Workload, arrays
from autoresearch_lab.catalog import Target
from autoresearch_lab.ceilings import floor_seconds, matmul_rate
from autoresearch_lab.results.base import Ceilings
from autoresearch_lab.results.profile import TargetTimes

FLOATS = ("float32", "bfloat16", "float16", "float64")
# A measured time may undercut its floor by as much as two honest measurements differ.
IMPOSSIBLE_MARGIN = 0.05


def rank(
    measured: Mapping[str, Mapping[str, Any]],
    workloads: Mapping[str, Sequence[Workload]],
    catalog: Mapping[str, Target],
    ceilings: Ceilings,
    step_ms: float,
) -> list[TargetTimes]:
    """Rows for all measured targets, largest saveable time first; unknown ones after all known ones, by total time.

    measured: {target: forward_ms, backward_ms, optimizer_ms, total_ms, self_ms, calls_per_step, within}.
    """
    rows = []
    for name, times in measured.items():
        calls = workloads.get(name, [])
        flops, moved = work_per_step(catalog[name], calls)
        floor = floor_ms(catalog[name], calls, catalog, ceilings)
        total = times["total_ms"]
        rows.append(
            TargetTimes(
                target=name,
                rank=1,
                **times,
                share=total / step_ms,
                flops=flops,
                bytes=moved,
                floor_ms=floor,
                saveable_ms=None if floor is None else max(0.0, total - floor),
                gflop_s=flops / total / 1e6 if flops and total else None,
                gb_s=moved / total / 1e6 if moved and total else None,
                impossible=floor is not None and total < floor * (1 - IMPOSSIBLE_MARGIN),
                includes=[part for part in catalog[name].contract.replaces if calls_of(part, measured)],
            )
        )
    by_name = {row.target: row for row in rows}
    rows = [row.model_copy(update={"saveable_ms": _saveable(row, by_name)}) for row in rows]
    rows.sort(key=lambda row: (row.saveable_ms is None, -(row.saveable_ms or 0.0), -row.total_ms, row.target))
    return [row.model_copy(update={"rank": place}) for place, row in enumerate(rows, start=1)]


def _saveable(row: TargetTimes, rows: Mapping[str, TargetTimes]) -> float | None:
    """What lies between a target's time and its floor, and of a composite at least what its parts could save within it:
    the ceilings of products and of copies come from different measurements, and a floor of both may be the less sharp.
    """
    if row.saveable_ms is None:
        return None
    parts = [rows[part] for part in row.includes if rows[part].saveable_ms]
    within = [
        (part.saveable_ms or 0.0) * min(1.0, part.within.get(row.target, 0.0) / part.calls_per_step) for part in parts
    ]
    return min(row.total_ms, max(row.saveable_ms, sum(within)))


def calls_of(target: str, measured: Mapping[str, Mapping[str, Any]]) -> float:
    """Calls per step; 0 for a target that was not measured."""
    return measured[target]["calls_per_step"] if target in measured else 0.0


def work_per_step(target: Target, workloads: Iterable[Workload]) -> tuple[float, float]:
    """(FLOP, bytes) that the captured calls need at least in one optimizer step, backward passes included."""
    flops = moved = 0.0
    for workload in workloads:
        for direction in directions(workload):
            more_flops, more_bytes = target.oracle.cost(workload, direction)
            flops += workload["calls_per_step"] * more_flops
            moved += workload["calls_per_step"] * more_bytes
    return flops, moved


def floor_ms(
    target: Target, workloads: Sequence[Workload], catalog: Mapping[str, Target], ceilings: Ceilings
) -> float | None:
    """Least time in ms per optimizer step for the captured calls on this machine; None = unknown."""
    total = 0.0
    for workload in workloads:
        dtype = fastest_dtype(target, workload, catalog, ceilings)
        for direction in directions(workload):
            flops, moved = target.oracle.cost(workload, direction)
            seconds = floor_seconds(ceilings, flops, moved, dtype)
            if seconds is None:
                return None
            total += workload["calls_per_step"] * seconds * 1e3
    return total if workloads else None


def directions(workload: Workload) -> tuple[str, ...]:
    """Forward, and backward where an input's gradient is needed."""
    return ("forward", "backward") if any(spec["grad"] for spec in arrays(workload)) else ("forward",)


def fastest_dtype(target: Target, workload: HasArguments, catalog: Mapping[str, Target], ceilings: Ceilings) -> str:
    """The floating type, out of those that the target's contract lets a kernel compute in, in which this machine
    multiplies fastest: types of the inputs, and of the outputs of the target and of the parts that it is composed of.
    """
    allowed = {spec["dtype"] for spec in arrays(workload)}
    parts = [target, *(catalog[name] for name in target.contract.replaces if name in catalog)]
    allowed |= {output.dtype for part in parts for output in part.contract.outputs}
    candidates = [dtype for dtype in FLOATS if dtype in allowed] or ["float32"]
    return max(candidates, key=lambda dtype: matmul_rate(ceilings, dtype) or 0.0)
