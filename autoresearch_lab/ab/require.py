"""What has to be proven before a kernel may enter the trainer: it is right (verify) and faster by itself (bench)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject
from autoresearch_lab.invocation import command_line
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.ab import CandidateKernel
from autoresearch_lab.results.record import BenchRecord, Record, VerifyRecord


@dataclass(frozen=True)
class Standing:
    """The evidence of one kernel on one set of workloads; None where there is none that counts. stale: {verb: the
    newest of it, where that does not count, and why}."""

    target: Target
    kernel: Kernel
    verify: VerifyRecord | None
    bench: BenchRecord | None
    engine: str
    stale: Mapping[str, tuple[Record, str]] = field(default_factory=dict)

    @property
    def only_interpreted(self) -> bool:
        """Whether it passed where its GPU is not, and the GPU still is not here: another verification adds nothing."""
        record = self.stale["verify"][0] if "verify" in self.stale and self.verify is None else None
        passed = isinstance(record, VerifyRecord) and record.settings.interpreted and record.verdict == "PASS"
        return passed and lacks_gpu(self.kernel.language)

    @property
    def missing(self) -> str | None:
        """The first step that is missing or negative, in words; None where both are there."""
        name = f"{self.target.name}={self.kernel.name} ({self.kernel.sha256[:12]})"
        if self.only_interpreted:
            passed = self.stale["verify"][0]
            return (
                f"{name} passed verify on the CPU alone (record {passed.id[:12]}), which is no evidence for a GPU; "
                f"bench and A/B take its GPU, which this machine has not"
            )
        steps: tuple[tuple[str, Record | None, str], ...]
        steps = (("verify", self.verify, "PASS"), ("bench", self.bench, "FASTER"))
        for verb, record, wanted in steps:
            if record is None:
                return f"{name} has no {verb} that counts here{self._why_not(verb)}; run: {self.command(verb)}"
            if record.verdict != wanted:
                return f"{name}: {verb} says {record.verdict}, not {wanted} (record {record.id[:12]})"
        return None

    def _why_not(self, verb: str) -> str:
        if verb not in self.stale:
            return ""
        record, reason = self.stale[verb]
        return f" ({record.verdict} of {record.time[:10]}, record {record.id[:12]}, does not: {reason})"

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
    subject = Subject(target, kernel, workloads_sha256, lab.context)
    verify, bench = subject.judged(lab.ledger)
    asked: dict[str, tuple[type[Record], Record | None]] = {
        "verify": (VerifyRecord, verify),
        "bench": (BenchRecord, bench),
    }
    kinds = [(verb, of) for verb, (of, counting) in asked.items() if counting is None]
    stale = {verb: found for verb, of in kinds if (found := subject.not_counted(lab.ledger, of))}
    return Standing(target, kernel, verify, bench, lab.context.engine.name, stale)


def require(target: Target, kernel: Kernel, lab: Lab, workloads_sha256: str | None = None) -> Standing:
    """The standing of a kernel that has all it needs; see `standing`.

    Raises:
        LabError: verify or bench is missing, stale or negative; the message names the command to run.
    """
    found = standing(target, kernel, lab, workloads_sha256)
    if found.missing:
        raise LabError(found.missing)
    return found
