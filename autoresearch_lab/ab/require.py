"""What has to be proven before a kernel may enter the trainer: it is right (verify) and faster by itself (bench)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject
from autoresearch_lab.invocation import command_line
from autoresearch_lab.lab import Lab
from autoresearch_lab.records import Record


@dataclass(frozen=True)
class Standing:
    """The evidence of one kernel on one set of workloads; None where there is none that counts."""

    target: Target
    kernel: Kernel
    verify: Record | None
    bench: Record | None
    engine: str

    @property
    def missing(self) -> str | None:
        """The first step that is missing or negative, in words; None where both are there."""
        name = f"{self.target.name}={self.kernel.name} ({self.kernel.sha256[:12]})"
        for verb, record, wanted in (("verify", self.verify, "PASS"), ("bench", self.bench, "FASTER")):
            if record is None:
                return f"{name} has no {verb} that counts here; run: {self.command(verb)}"
            if record.verdict != wanted:
                return f"{name}: {verb} says {record.verdict}, not {wanted} (record {record.id[:12]})"
        return None

    def command(self, verb: str, *more: str) -> str:
        """The command line that does `verb` to this kernel here."""
        return command_line(verb, self.target, self.kernel, self.engine, *more)

    def plain(self) -> dict[str, Any]:
        """As the settings of an A/B record name it."""
        return {
            "target": self.target.name,
            "name": self.kernel.name,
            "sha256": self.kernel.sha256,
            "contract_sha256": self.target.contract_sha256,
            "workloads_sha256": ((self.bench and self.bench.workloads) or {}).get("sha256"),
            "verify": self.verify.id if self.verify else None,
            "bench": self.bench.id if self.bench else None,
        }

    @property
    def predicted_saved(self) -> float | None:
        """Fraction of the training step that bench and profile promise to save; None where there is no profile."""
        predicted = ((self.bench and self.bench.results) or {}).get("predicted") or {}
        saved, step = predicted.get("saved_ms"), predicted.get("step_ms")
        return float(saved) / float(step) if saved is not None and step else None


def standing(target: Target, kernel: Kernel, lab: Lab, workloads_sha256: str | None = None) -> Standing:
    """The newest evidence for this content here: on those workloads, or on the ones of the newest bench. Bench and
    verify have to speak of the same."""
    latest: dict[str, Record] = {}
    wanted = workloads_sha256
    for kind in ("bench", "verify"):
        for record in reversed(lab.ledger.find(kind=kind, target=target.name, kernel_sha256=kernel.sha256)):
            workloads = (record.workloads or {}).get("sha256")
            subject = Subject(target, kernel, workloads, lab.context)
            if wanted in (None, workloads) and subject.staleness(record) is None:
                latest[kind], wanted = record, workloads
                break
    return Standing(target, kernel, latest.get("verify"), latest.get("bench"), lab.context.engine.name)


def require(target: Target, kernel: Kernel, lab: Lab, workloads_sha256: str | None = None) -> Standing:
    """The standing of a kernel that has all it needs; see `standing`.

    Raises:
        LabError: verify or bench is missing, stale or negative; the message names the command to run.
    """
    found = standing(target, kernel, lab, workloads_sha256)
    if found.missing:
        raise LabError(found.missing)
    return found
