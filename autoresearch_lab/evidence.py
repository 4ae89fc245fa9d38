"""Which evidence counts: a record speaks for a kernel only while everything that it rests on is unchanged.

A verdict is keyed by the kernel's content and that of the baseline that it was judged against, the target's contract
and oracle, the captured workloads, the device and the software (the lab's own judging code included). When any of them
changes, the record stays in the ledger and stops counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.records import Record


@dataclass(frozen=True)
class Subject:
    """What evidence is asked for: this kernel of this target, on these workloads, here and now."""

    target: Target
    kernel: Kernel
    workloads_sha256: str
    context: Context

    def staleness(self, record: Record) -> str | None:
        """Why `record` does not speak for this subject any more, in a word or two; None where it does."""
        device, software = record.device or {}, record.software or {}
        reasons = {
            "another kernel content": record.kernel is None or record.kernel.sha256 != self.kernel.sha256,
            "another engine": record.engine != self.context.engine.name,
            "another device": device.get("key") != self.context.device["key"],
            "another software": software.get("key") != self.context.software["key"],
            "another contract": (record.settings or {}).get("contract_sha256") != self.target.contract_sha256,
            "another baseline": other_baseline(record, self.target),
            "other workloads": (record.workloads or {}).get("sha256") != self.workloads_sha256,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def latest(self, ledger: Ledger, kind: str, **settings: Any) -> Record | None:
        """The newest record of that kind which counts for this subject and whose settings hold `settings`."""
        for record in reversed(ledger.find(kind=kind, target=self.target.name)):
            given = record.settings or {}
            if self.staleness(record) is None and all(given.get(key) == value for key, value in settings.items()):
                return record
        return None


def other_baseline(record: Record, target: Target) -> bool:
    """Whether the record was judged against another content of the target's baseline than today's. An A/B's other arm
    may have had another kernel altogether, which then is what it was against; then there is nothing to compare."""
    given = (record.settings or {}).get("baseline")
    if record.kind == "ab" and isinstance(given, dict):
        given = given.get(target.name)
    if not isinstance(given, dict) or not given.get("sha256"):
        return False
    framework = framework_of(record)
    today = [kernel for kernel in target.kernels if kernel.role == "baseline" and kernel.framework == framework]
    return any(kernel.name == given.get("name") and kernel.sha256 != given["sha256"] for kernel in today)


def framework_of(record: Record) -> str:
    """The framework of the engine that a record was made with; the names of kernels are its own."""
    return "mlx" if record.engine == "mlx" else "torch"


def profiles_here(lab: Lab, preset: str, dataset: str, selection: Mapping[str, Mapping[str, str]]) -> list[Record]:
    """Profiles of the trainer taken on this device with this software, newest first. preset and dataset (its
    fingerprint): what was trained; selection: {target: {"name", "sha256"}} with which kernels."""
    found = []
    for record in reversed(lab.ledger.find(kind="profile", **lab.context.keys())):
        given = record.settings or {}
        trained = (given.get("preset"), (given.get("dataset") or {}).get("fingerprint"))
        if trained == (preset, dataset) and given.get("selection") == selection:
            found.append(record)
    return found


def saveable(lab: Lab) -> dict[str, float]:
    """{target: ms per step that could be saved there} as the newest profile of this engine in the ledger says, whatever
    became of it; empty where there is none. Where the ceilings are unknown, all of the target's time."""
    record = lab.ledger.latest(kind="profile", engine=lab.engine.name)
    rows = ((record.results or {}).get("targets") or []) if record else []
    return {row["target"]: row.get("saveable_ms") or row.get("total_ms") or 0.0 for row in rows}


def closing_run(lab: Lab, asked: Mapping[str, Any]) -> Record | None:
    """The newest note here with just these settings: a campaign's closing run that need not be done again."""
    notes = lab.ledger.find(kind="note", **lab.context.keys())
    return next((record for record in reversed(notes) if record.settings == asked), None)


def measured_ceilings(lab: Lab, device: str) -> list[Record]:
    """Every measurement of the ceilings of the device with that key by this engine, with any software, oldest first."""
    notes = lab.ledger.find(kind="note", engine=lab.engine.name, device_key=device)
    return [note for note in notes if (note.settings or {}).get("event") == "ceilings"]


def newest_of_content(lab: Lab, kind: str, engine: str, kernel: Kernel) -> Record | None:
    """The newest record of that kind of just this content of a kernel, wherever and on whatever calls it was made: of
    use only in a ledger of its own, such as a rehearsal's."""
    return lab.ledger.latest(kind=kind, engine=engine, target=kernel.target, kernel_sha256=kernel.sha256)


def campaigns(lab: Lab) -> list[Record]:
    """The notes that campaigns left at their ends, oldest first."""
    notes = lab.ledger.find(kind="note")
    return [note for note in notes if (note.settings or {}).get("event") == "campaign"]


def named_files(lab: Lab) -> set[str]:
    """Paths of the files that the ledger's records name."""
    return {artifact.path for record in lab.ledger.records() for artifact in record.artifacts or []}
