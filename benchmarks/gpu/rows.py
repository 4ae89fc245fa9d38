"""The rows of the table kernel x arm x shape: what a bench record says of every arm, workload by workload."""

from __future__ import annotations

from typing import Any

from autoresearch_lab.bench import samples
from autoresearch_lab.catalog import Target
from autoresearch_lab.ceilings import floor_seconds, highest
from autoresearch_lab.profile.rank import fastest_dtype
from autoresearch_lab.results.record import Record
from benchmarks.gpu.setting import Setting

COPY, PRODUCTS = "copy bandwidth", "matrix products"
# Kernels are timed with cold caches, the ceilings by repeating: what moves less than this may run from the cache there.
COLD_BYTES = 256 << 20


def table_rows(setting: Setting, record: Record) -> list[dict[str, Any]]:
    """Of a bench record, per workload and direction. {arm: ...} has the baseline, the kernel and the library's kernels.

    "microseconds": {arm: median time per call}; "replayed": {arm: the same as replayed CUDA graphs}, where taken;
    "share_of_ceiling": {arm: least time that the ceiling allows / time, None = unknown}; "ceiling": which one that is,
    COPY or PRODUCTS; "against": {arm: {"ratio": its time / the kernel's, "interval"}}, where the record has it; "ratio"
    and "interval": those against the baseline.
    """
    found = record.results or {}
    ceilings = _ceilings(setting, record)
    _, workloads, _ = samples.load(setting.root.path / record.artifacts[0].path)
    target = setting.catalog[record.target]
    libraries = [one["name"] for one in found["libraries"]]
    rows = []
    for about, workload in zip(found["workloads"], workloads, strict=True):
        dtype = fastest_dtype(target, workload, setting.catalog, ceilings)
        for direction in (name for name in samples.DIRECTIONS if name in about["directions"]):
            times = about["directions"][direction]
            arms = {"baseline": times["baseline_us"], record.kernel.name: times["candidate_us"]}
            arms |= dict(zip(libraries, times["library_us"], strict=True))
            own = {"ratio": times["ratio"], "interval": times["interval"]}
            floor, ceiling = _floor(target, workload, direction, dtype, ceilings)
            rows.append(
                {
                    "target": record.target,
                    "kernel": record.kernel.name,
                    "workload": about["id"],
                    "shapes": [spec["shape"] for spec in workload["args"] if spec["kind"] == "array"],
                    "calls_per_step": about["calls_per_step"],
                    "direction": direction,
                    "microseconds": arms,
                    "replayed": _replayed(found, about["id"], direction),
                    "share_of_ceiling": {arm: floor / us if floor and us else None for arm, us in arms.items()},
                    "ceiling": ceiling,
                    # Records of an earlier lab have no ratios of the library's kernels.
                    "against": {"baseline": own, **dict(zip(libraries, times.get("library_ratios", []), strict=False))},
                    **own,
                    "record": record.id,
                }
            )
    return rows


def overall(record: Record) -> dict[str, Any]:
    """What the verdict of a bench record rests on: {"to_beat": the arm, "ratio": its time / the kernel's over a step of
    training, "interval"}."""
    found = record.results or {}
    return {"to_beat": found["against"], "ratio": found["ratio"], "interval": found["interval"]}


def _parts(direction: str) -> tuple[str, ...]:
    return (samples.FORWARD, samples.BACKWARD) if direction == samples.BOTH else (direction,)


def _floor(
    target: Target, workload: dict[str, Any], direction: str, dtype: str, ceilings: dict[str, Any]
) -> tuple[float | None, str | None]:
    """(least time in us, the ceiling that most of it is due to); (None, None) where the ceilings are unknown."""
    whole, due_to_memory = 0.0, 0.0
    for part in _parts(direction):
        flops, moved = target.oracle.cost(workload, part)
        floor, memory = (floor_seconds(ceilings, work, moved, dtype) for work in (flops, 0))
        if floor is None or memory is None:
            return None, None
        whole += floor
        due_to_memory += memory if memory >= floor else 0.0
    return whole * 1e6, COPY if 2 * due_to_memory >= whole else PRODUCTS


def _replayed(found: dict[str, Any], workload: str, direction: str) -> dict[str, float]:
    """{arm: us per call} of the arms that were replayed on this workload."""
    times: dict[str, float] = {}
    for name, of_workload in ((found.get("replayed") or {}).get("times") or {}).items():
        role, _, arm = name.partition(":")
        if role != "control" and workload in of_workload:
            both = dict(zip((samples.FORWARD, samples.BACKWARD), of_workload[workload], strict=True))
            times["baseline" if role == "baseline" else arm] = sum(both[part] for part in _parts(direction))
    return times


def _ceilings(setting: Setting, record: Record) -> dict[str, Any]:
    """The highest that were measured on that device; of memory what copying reaches, not what reading alone does, and
    only what no cache can have helped."""
    notes = setting.ledger.find(kind="note", engine=setting.engine, device_key=record.device["key"])
    measured = [note.results or {} for note in notes if (note.settings or {}).get("event") == "ceilings"]
    if not measured:
        return {}
    found = highest([{**one, "copy_gb_s": (one.get("patterns") or {}).get("copy", [])} for one in measured])
    cold = [row for row in found["copy_gb_s"] if row[0] >= COLD_BYTES]
    return {**found, "copy_gb_s": cold or found["copy_gb_s"]}
