"""What the report shows. A record is shown as it is, beside whether it counts here now; what page and charts need
besides is derived from it here.

Every number is one that a record holds; what a record does not hold stays None and is shown as a dash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from autoresearch_lab.format import Estimate, not_enforced
from autoresearch_lab.results.record import (
    AbRecord,
    BenchRecord,
    CampaignRecord,
    DemoteRecord,
    ProfileRecord,
    PromoteRecord,
    R,
    Record,
    VerifyRecord,
)


@dataclass(frozen=True)
class Source(Generic[R]):
    """A record, and whether it counts. stale: why it does not count here now; () = it counts; None = not compared."""

    record: R
    stale: tuple[str, ...] | None = None
    shipped: bool = False

    @property
    def counts(self) -> bool:
        return not self.shipped and not self.stale


@dataclass(frozen=True)
class SpeedRow:
    """One comparison of a bench: how many times faster than the baseline, > 1 = faster.

    arm: "candidate" or "library"; direction: "forward", "backward", or "both" together. decisive: the verdict rests on
    this direction. floor: how far the baseline was from itself, 0.012 = 1.2 %. Times in ms per optimizer step.
    against: the kernel that stands in the baseline's place, since the verdict rests on it; empty for the baseline.
    """

    source: Source[BenchRecord]
    target: str
    kernel: str
    arm: str
    direction: str
    ratio: Estimate
    decisive: bool
    floor: float | None = None
    baseline_ms: float | None = None
    arm_ms: float | None = None
    verdict: str | None = None
    against: str = ""


def speed_rows(source: Source[BenchRecord]) -> list[SpeedRow]:
    """The candidate in every direction that was timed, the one that decides first; then the library's kernels. None
    where nothing was timed."""
    record, found = source.record, source.record.results
    target, name, decisive = record.target, record.kernel.name, found.direction
    libraries = found.library_ms
    whole = found.directions.get(decisive)
    baseline_ms, candidate_ms = (whole.baseline_ms, whole.candidate_ms) if whole else (None, None)
    beaten = found.against if found.against in libraries else ""
    rows = []
    if found.ratio is not None:
        # The deciding interval is the record's own; the ones per direction are shown only.
        low, high = found.interval or (None, None)
        ratio = Estimate(found.ratio, low, high, found.level)
        floor = found.floor - 1 if found.floor is not None else None
        before = libraries.get(beaten, baseline_ms)
        rows.append(
            SpeedRow(
                source, target, name, "candidate", decisive, ratio, True, floor, before, candidate_ms, record.verdict,
                beaten,
            )
        )  # fmt: skip
    for direction in ("both", "forward", "backward"):
        row = found.directions.get(direction)
        if row is not None and (direction != decisive or beaten):
            ratio = Estimate(row.ratio, *row.interval, found.level)
            times = row.baseline_ms, row.candidate_ms
            rows.append(SpeedRow(source, target, name, "candidate", direction, ratio, False, None, *times))
    for one in found.libraries:
        ratio = Estimate(one.baseline_ratio, *one.baseline_interval, found.level)
        took = libraries.get(one.name)
        rows.append(SpeedRow(source, target, one.name, "library", decisive, ratio, True, None, baseline_ms, took))
    return rows


def speed_up(record: BenchRecord) -> Estimate | None:
    """The ratio that the verdict rests on."""
    return next((row.ratio for row in speed_rows(Source(record)) if row.verdict), None)


@dataclass(frozen=True)
class PromotionRow:
    """A promotion or a demotion. in_force: the trainer uses this kernel here now."""

    source: Source[Record]
    in_force: bool = False

    @property
    def evidence(self) -> str | None:
        """The A/B that it rests on."""
        record = self.source.record
        return record.settings.evidence if isinstance(record, PromoteRecord) else None

    @property
    def note(self) -> str:
        """What changed besides: what was replaced, what is used from now on, which list was written."""
        record, parts = self.source.record, []
        if isinstance(record, PromoteRecord):
            if record.results.previous:
                parts.append(f"in place of {record.results.previous.name}")
            if record.settings.from_workspace:
                parts.append("from a workspace")
            if record.settings.unattended:
                parts.append("unattended")
            if record.not_enforced:
                parts.append(not_enforced(record.not_enforced))
        if isinstance(record, DemoteRecord):
            parts.append(f"now {record.results.now.name}")
        if isinstance(record, PromoteRecord | DemoteRecord) and record.settings.list == "shipped":
            parts.append("in the list that ships with the project")
        return ", ".join(parts)


@dataclass(frozen=True)
class ReportView:
    """All that the page shows."""

    title: str
    generated: str
    root: str
    machine: dict[str, str]
    software: dict[str, str]
    commit: str | None
    dataset: str
    device_key: str
    story: Source[AbRecord] | None
    profile: Source[ProfileRecord] | None
    speeds: tuple[SpeedRow, ...]
    verifications: tuple[Source[VerifyRecord], ...]
    abs: tuple[Source[AbRecord], ...]
    promotions: tuple[PromotionRow, ...]
    evidence: tuple[Source[Record], ...]
    counts: dict[str, int]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    campaign: CampaignRecord | None = None

    @property
    def empty(self) -> bool:
        return not self.evidence and self.profile is None
