"""What has to be proven before a kernel may enter the trainer: it is right (verify) and faster by itself (bench)."""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject
from autoresearch_lab.invocation import command_line
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.ab import CandidateKernel
from autoresearch_lab.results.record import BenchRecord, Record, VerifyRecord


@dataclass(frozen=True)
class Standing:
    """The evidence of one kernel on one set of workloads; None where there is none that counts."""

    target: Target
    kernel: Kernel
    verify: VerifyRecord | None
    bench: BenchRecord | None
    engine: str

    @property
    def missing(self) -> str | None:
        """The first step that is missing or negative, in words; None where both are there."""
        name = f"{self.target.name}={self.kernel.name} ({self.kernel.sha256[:12]})"
        steps: tuple[tuple[str, Record | None, str], ...]
        steps = (("verify", self.verify, "PASS"), ("bench", self.bench, "FASTER"))
        for verb, record, wanted in steps:
            if record is None:
                return f"{name} has no {verb} that counts here; run: {self.command(verb)}"
            if record.verdict != wanted:
                return f"{name}: {verb} says {record.verdict}, not {wanted} (record {record.id[:12]})"
        return None

    def command(self, verb: str, *more: str) -> str:
        """The command line that does `verb` to this kernel here."""
        return command_line(verb, self.target, self.kernel, self.engine, *more)

    def recorded(self) -> CandidateKernel:
        """As the settings of an A/B record name it."""
        return CandidateKernel(
            target=self.target.name,
            name=self.kernel.name,
            sha256=self.kernel.sha256,
            contract_sha256=self.target.contract_sha256,
            workloads_sha256=self.bench.workloads.sha256 if self.bench and self.bench.workloads else None,
            verify=self.verify.id if self.verify else None,
            bench=self.bench.id if self.bench else None,
        )

    @property
    def predicted_saved(self) -> float | None:
        """Fraction of the training step that bench and profile promise to save; None where there is no profile."""
        predicted = self.bench.results.predicted if self.bench else None
        if predicted is None or predicted.saved_ms is None or not predicted.step_ms:
            return None
        return predicted.saved_ms / predicted.step_ms


def standing(target: Target, kernel: Kernel, lab: Lab, workloads_sha256: str | None = None) -> Standing:
    """The newest evidence for this content here: on those workloads, or on those captured last. Bench and verify have
    to speak of the same."""
    verify, bench = Subject(target, kernel, workloads_sha256, lab.context).judged(lab.ledger)
    return Standing(target, kernel, verify, bench, lab.context.engine.name)


def require(target: Target, kernel: Kernel, lab: Lab, workloads_sha256: str | None = None) -> Standing:
    """The standing of a kernel that has all it needs; see `standing`.

    Raises:
        LabError: verify or bench is missing, stale or negative; the message names the command to run.
    """
    found = standing(target, kernel, lab, workloads_sha256)
    if found.missing:
        raise LabError(found.missing)
    return found
