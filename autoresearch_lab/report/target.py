"""The evidence for one target: per kernel the newest record of every step, and whether it counts here now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoresearch_lab import lookup
from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.machine import STAND_INS
from autoresearch_lab.promote.selection import WORKSPACE
from autoresearch_lab.report.brief import brief
from autoresearch_lab.report.sources import MOST_KERNELS, Sources
from autoresearch_lab.report.views import Source
from autoresearch_lab.results.record import (
    AbRecord,
    BenchRecord,
    CompileRecord,
    DemoteRecord,
    PromoteRecord,
    Record,
    VerifyRecord,
)

STEPS = (CompileRecord, VerifyRecord, BenchRecord, AbRecord, PromoteRecord | DemoteRecord)
ANY = CompileRecord | VerifyRecord | BenchRecord | AbRecord | PromoteRecord | DemoteRecord
# What a record without a device of its own is not held against.
ELSEWHERE = ("other engine", "other device", "other software")


@dataclass(frozen=True)
class EvidenceRow:
    """One record: where it comes from, what it found in a few words, and whether it counts."""

    source: Source[Record]

    @property
    def without_device(self) -> str | None:
        """ "interpreted" or "compiled", where it speaks of the kernel but of no device, and so never counts."""
        record = self.source.record
        if record.kind == "compile":
            return "compiled"
        return "interpreted" if (record.device or {}).get("kind") in STAND_INS.values() else None

    @property
    def summary(self) -> str:
        return brief(self.source.record)

    @property
    def state(self) -> str:
        if self.source.shipped:
            return "shipped"
        if self.without_device:
            stale = [reason for reason in self.source.stale or () if not reason.startswith(ELSEWHERE)]
            return f"{self.without_device}, on no device" + (f"; stale: {'; '.join(stale)}" if stale else "")
        if self.source.stale:
            return "stale: " + "; ".join(self.source.stale)
        return "not compared" if self.source.stale is None else "counts"

    def plain(self) -> dict[str, Any]:
        record = self.source.record
        return {
            "id": record.id,
            "time": record.time,
            "kind": record.kind,
            "verdict": record.verdict,
            "summary": self.summary,
            "not_enforced": record.not_enforced,
            "counts": self.source.counts and self.source.stale is not None,
            "stale": None if self.source.stale is None else list(self.source.stale),
            "shipped": self.source.shipped,
            "without_device": self.without_device,
        }


@dataclass(frozen=True)
class KernelEvidence:
    """A kernel of the catalogue, or one that only the ledger knows (`role` is then "workspace" or "gone"); one of
    another engine is listed where the ledger knows it."""

    name: str
    role: str
    sha256: str | None
    in_use: bool
    found: list[EvidenceRow]

    def plain(self) -> dict[str, Any]:
        return {
            "kernel": self.name,
            "role": self.role,
            "sha256": self.sha256,
            "in_use": self.in_use,
            "evidence": [item.plain() for item in self.found],
        }


@dataclass(frozen=True)
class TargetEvidence:
    """Everything that is known of one target."""

    target: str
    summary: str
    contract_sha256: str
    kernels: list[KernelEvidence]
    remarks: list[str]

    def plain(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "contract_sha256": self.contract_sha256,
            "kernels": [kernel.plain() for kernel in self.kernels],
            "remarks": self.remarks,
        }


def evidence_of(found: Sources, target: Target, kernel: str | None = None, remark: str | None = None) -> TargetEvidence:
    """Collect it; with `kernel` for that one only. That of a workspace need not have any evidence yet.

    Raises:
        LabError: neither the catalogue nor the ledger knows that kernel.
    """
    listed = {item.name: item for item in target.kernels if _fits(item.framework, item.devices, found)}
    catalogue = {item.name: item for item in target.kernels}
    shipped = _by_kernel(found.shipped, target)
    known = [name for _, name in lookup.kernels(found.lab.ledger, ANY, target=target.name)]
    others = [name for name in dict.fromkeys([*(name for name in known if name in catalogue), *shipped, *known])]
    names = [*listed, *(name for name in others if name not in listed)]
    if kernel is not None and kernel not in names and not kernel.startswith(WORKSPACE):
        raise LabError(f"target {target.name} has no kernel '{kernel}'; known: {', '.join(names) or 'none'}")
    used_here = found.promoted.get(target.name)
    in_use = used_here.sha256 if used_here else None
    kernels = []
    if kernel is None and len(names) > MOST_KERNELS:
        found.remark(f"of {len(names)} kernels {MOST_KERNELS} are shown, those with the newest records; name another")
    for name in [kernel] if kernel is not None else names[:MOST_KERNELS]:
        sha256 = catalogue[name].sha256 if name in catalogue else None
        role = "workspace" if name.startswith(WORKSPACE) else "gone"
        if name in catalogue:
            role = catalogue[name].role if name in listed else f"{catalogue[name].role} of another engine"
        used = sha256 == in_use if in_use else role == "baseline"
        rows = _own_rows(found, target.name, name) + _shipped_rows(found, shipped.get(name, []))
        kernels.append(KernelEvidence(name, role, sha256, used, rows))
    remarks = [*([remark] if remark else []), *found.remarks]
    return TargetEvidence(target.name, target.contract.summary, target.contract_sha256, kernels, remarks)


def _fits(framework: str, devices: tuple[str, ...], found: Sources) -> bool:
    engine = found.context.engine if found.context else None
    return engine is None or (framework == engine.framework and engine.device in devices)


def _by_kernel(records: list[Record], target: Target) -> dict[str, list[Record]]:
    """{name of a kernel of that target: its records, oldest first}."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.target == target.name and record.kernel:
            found.setdefault(record.kernel.name, []).append(record)
    return found


def _own_rows(found: Sources, target: str, kernel: str) -> list[EvidenceRow]:
    """The newest record of every step: the newest that counts, or where none does the newest of all."""
    sources = [found.newest_of(of, target, kernel) for of in STEPS]
    return [EvidenceRow(source) for source in sources if source is not None]


def _shipped_rows(found: Sources, records: list[Record]) -> list[EvidenceRow]:
    """The newest record of every step; none of them counts."""
    newest = {of: [record for record in records if isinstance(record, of)][-1:] for of in STEPS}
    return [EvidenceRow(found.source(record, True)) for last in newest.values() for record in last]
