"""The rows of the table kernel x arm x shape: what a bench record says of every arm, workload by workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch_lab import evidence
from autoresearch_lab.bench import samples
from autoresearch_lab.campaign.gpu.result import CallFound, OverallFound, RatioFound
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.catalog import Target
from autoresearch_lab.ceilings import floor_seconds, highest
from autoresearch_lab.profile.rank import fastest_dtype
from autoresearch_lab.results.base import Ceilings
from autoresearch_lab.results.bench import BenchResults
from autoresearch_lab.results.record import BenchRecord, CeilingsRecord

COPY, PRODUCTS = "copy bandwidth", "matrix products"
# Kernels are timed with cold caches, the ceilings by repeating: what moves less than this may run from the cache there.
COLD_BYTES = 256 << 20


def call_rows(setting: Setting, record: BenchRecord) -> list[CallFound]:
    """Of a bench record, per workload and direction."""
    found = record.results
    assert record.artifacts  # as every bench record has them
    ceilings = _ceilings(setting, record)
    _, workloads, _ = samples.load(setting.root.path / record.artifacts[0].path)
    target = setting.catalog[record.target]
    libraries = [one.name for one in found.libraries]
    rows = []
    for about, workload in zip(found.workloads, workloads, strict=True):
        dtype = fastest_dtype(target, workload, setting.catalog, ceilings)
        for direction in (name for name in samples.DIRECTIONS if name in about.directions):
            times = about.directions[direction]
            arms = {"baseline": times.baseline_us, record.kernel.name: times.candidate_us}
            arms |= dict(zip(libraries, times.library_us, strict=True))
            own = RatioFound(ratio=times.ratio, interval=times.interval)
            floor, ceiling = _floor(target, workload, direction, dtype, ceilings)
            # Records of an earlier lab have no ratios of the library's kernels.
            ratios = [RatioFound(ratio=one.ratio, interval=one.interval) for one in times.library_ratios]
            against = {"baseline": own, **dict(zip(libraries, ratios, strict=False))}
            rows.append(
                CallFound(
                    target=record.target,
                    kernel=record.kernel.name,
                    workload=about.id,
                    shapes=[spec["shape"] for spec in workload["args"] if spec["kind"] == "array"],
                    calls_per_step=about.calls_per_step,
                    direction=direction,
                    microseconds=arms,
                    replayed=_replayed(found, about.id, direction),
                    share_of_ceiling={arm: floor / us if floor and us else None for arm, us in arms.items()},
                    ceiling=ceiling,
                    against=against,
                    ratio=own.ratio,
                    interval=own.interval,
                    record=record.id,
                )
            )
    return rows


def overall(record: BenchRecord) -> OverallFound:
    """What the verdict of a bench record rests on."""
    found = record.results
    assert found.ratio is not None and found.interval is not None  # as every bench record has them
    return OverallFound(to_beat=found.against, ratio=found.ratio, interval=found.interval)


def _parts(direction: str) -> tuple[str, ...]:
    return (samples.FORWARD, samples.BACKWARD) if direction == samples.BOTH else (direction,)


def _floor(
    target: Target, workload: Mapping[str, Any], direction: str, dtype: str, ceilings: Ceilings
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


def _replayed(found: BenchResults, workload: str, direction: str) -> dict[str, float]:
    """{arm: us per call} of the arms that were replayed on this workload."""
    times: dict[str, float] = {}
    for name, of_workload in (found.replayed.times if found.replayed else {}).items():
        role, _, arm = name.partition(":")
        if role != "control" and workload in of_workload:
            both = dict(zip((samples.FORWARD, samples.BACKWARD), of_workload[workload], strict=True))
            times["baseline" if role == "baseline" else arm] = sum(both[part] for part in _parts(direction))
    return times


def _ceilings(setting: Setting, record: BenchRecord) -> Ceilings:
    """The highest that were measured on that device; of memory what copying reaches, not what reading alone does, and
    only what no cache can have helped."""
    notes = evidence.newest_on_device(setting.lab.ledger, CeilingsRecord, setting.engine, record.device_key or "")
    copying = [note.results.model_copy(update={"copy_gb_s": note.results.patterns.get("copy", [])}) for note in notes]
    found = highest(copying)
    cold = [row for row in found.copy_gb_s if row[0] >= COLD_BYTES]
    return found.model_copy(update={"copy_gb_s": cold or found.copy_gb_s})
