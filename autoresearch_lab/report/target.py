"""The evidence for one target: per kernel the newest record of every step, and whether it counts here now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.report.brief import brief
from autoresearch_lab.report.sources import Sources
from autoresearch_lab.report.views import Source
from autoresearch_lab.results.record import Record

STEPS = ("compile", "verify", "bench", "ab", "promote")
# What a record without a device of its own is not held against.
ELSEWHERE = ("other engine", "other device", "other software")


@dataclass(frozen=True)
class Found:
    """One record: where it comes from, its verdict, and what it found in a few words. without_device: "interpreted" or
    "compiled", where it speaks of the kernel but of no device, and so never counts; else None."""

    source: Source
    verdict: str | None
    summary: str
    without_device: str | None = None

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
        return {
            "id": self.source.id,
            "time": self.source.time,
            "kind": self.source.kind,
            "verdict": self.verdict,
            "summary": self.summary,
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
    found: list[Found]

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
    """Collect it; with `kernel` for that one only.

    Raises:
        LabError: neither the catalogue nor the ledger knows that kernel.
    """
    listed = {item.name: item for item in target.kernels if _fits(item.framework, item.devices, found)}
    catalogue = {item.name: item for item in target.kernels}
    names = list(listed)
    own = [record for record in found.records if record.target == target.name and record.kernel]
    shipped = [record for record in found.shipped if record.target == target.name and record.kernel]
    names += [name for name in dict.fromkeys(record.kernel.name for record in [*own, *shipped]) if name not in listed]
    if kernel is not None and kernel not in names:
        raise LabError(f"target {target.name} has no kernel '{kernel}'; known: {', '.join(names) or 'none'}")
    used_here = found.promoted.get(target.name)
    in_use = used_here.sha256 if used_here else None
    kernels = []
    for name in [kernel] if kernel is not None else names:
        sha256 = catalogue[name].sha256 if name in catalogue else None
        role = "workspace" if name.startswith("workspace:") else "gone"
        if name in catalogue:
            role = catalogue[name].role if name in listed else f"{catalogue[name].role} of another engine"
        used = sha256 == in_use if in_use else role == "baseline"
        rows = _rows(found, own, name, False) + _rows(found, shipped, name, True)
        kernels.append(KernelEvidence(name, role, sha256, used, rows))
    remarks = [*([remark] if remark else []), *found.remarks]
    return TargetEvidence(target.name, target.contract.summary, target.contract_sha256, kernels, remarks)


def _fits(framework: str, devices: tuple[str, ...], found: Sources) -> bool:
    engine = found.context.engine if found.context else None
    return engine is None or (framework == engine.framework and engine.device in devices)


def _rows(found: Sources, records: list[Record], name: str, shipped: bool) -> list[Found]:
    """The newest record of every step: the newest that counts, or where none does the newest of all."""
    rows = []
    for step in STEPS:
        kinds = ("promote", "demote") if step == "promote" else (step,)
        newest = [r for r in reversed(records) if r.kind in kinds and r.kernel and r.kernel.name == name]
        if newest:
            counting = [record for record in newest if found.source(record, shipped).counts]
            record = (counting or newest)[0]
            rows.append(Found(found.source(record, shipped), record.verdict, brief(record), _without_device(record)))
    return rows


def _without_device(record: Record) -> str | None:
    if record.kind == "compile":
        return "compiled"
    return "interpreted" if (record.device or {}).get("kind") == "interpreter" else None
