"""Is a kernel ready to be promoted, and if not: what is missing, and which command comes next?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from autoresearch_lab import diet
from autoresearch_lab.ab.require import Standing, standing
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.evidence import Decision, decide
from autoresearch_lab.invocation import program
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.bench import is_busy
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record

WANTED = {"verify": "PASS", "bench": "FASTER", "ab": "PROMOTE"}


@dataclass(frozen=True)
class Readiness:
    """Where one kernel stands on its way into the trainer of this machine."""

    standing: Standing
    decision: Decision | None

    @property
    def ab(self) -> AbRecord | None:
        """The A/B that decides."""
        return self.decision.record if self.decision else None

    @property
    def by_choice(self) -> list[str]:
        """What each kind of A/B says, a line each."""
        found = self.decision.by_choice if self.decision else {}
        return [f"{kind}: {verdict} ({reason})" for kind, (verdict, reason) in found.items()]

    @property
    def records(self) -> dict[str, Record | None]:
        return {"verify": self.standing.verify, "bench": self.standing.bench, "ab": self.ab}

    @property
    def ready(self) -> bool:
        return all(record is not None and record.verdict == WANTED[kind] for kind, record in self.records.items())

    @property
    def diet(self) -> list[str]:
        """What its source does beyond a kernel's diet, a line each; that is no obstacle to a promotion by hand."""
        return diet.lines(self.standing.kernel.path)

    @property
    def not_enforced(self) -> list[str]:
        """What of the confinement did not hold in the verification and the bench, once each."""
        found = [record.not_enforced for record in (self.standing.verify, self.standing.bench) if record is not None]
        return list(dict.fromkeys(name for names in found for name in names))

    @property
    def obstacle(self) -> str | None:
        """What stands in the way, in one line; None where nothing does."""
        if self.standing.missing:
            return self.standing.missing
        name = f"{self.standing.target.name}={self.standing.kernel.name}"
        if self.decision is None:
            return f"{name} has no A/B that counts here; run: {self.next_command}"
        if self.decision.verdict != "PROMOTE":
            return f"{name}: the A/B says {self.decision.verdict} ({self._why or 'no reason given'})"
        return None

    @property
    def _why(self) -> str:
        """One A/B gives its own reason, several are summed up."""
        decision = self.decision
        assert decision is not None
        return decision.reason if len(decision.by_choice) > 1 else decision.record.results.reason

    @property
    def remedy(self) -> str | None:
        """What can be done about a negative verdict, in one line; None where there is a next command, or no way."""
        if self.next_command or self.standing.only_interpreted:
            return None
        target, kernel = self.standing.target, self.standing.kernel
        if kernel.path.parent != target.folder:
            return f"change {kernel.path.name} there, then: {self.standing.command('verify')}"
        words = ["init", "--target", target.name, "--from", kernel.name, "--workspace", f"workspaces/{kernel.name}-2"]
        lab = program(target.folder.parents[1], self.standing.engine)
        return f"start another one from it with: {lab} {shlex.join(words)}"

    @property
    def next_command(self) -> str | None:
        """The command that takes this kernel one step further; None where a negative verdict stands in the way."""
        for kind, record in self.records.items():
            if self.standing.only_interpreted:
                return None
            if record is None:
                return self.standing.command(kind)
            if record.verdict != WANTED[kind]:
                if not _may_change(record):
                    return None
                return self.standing.command(kind, *(["--again"] if kind == "ab" else []))
        return self.standing.command("promote")

    def plain(self) -> dict[str, Any]:
        target, kernel = self.standing.target, self.standing.kernel
        return {
            "target": target.name,
            "kernel": kernel.id.model_dump(),
            "evidence": {
                kind: {"id": record.id, "verdict": record.verdict, "time": record.time} if record else None
                for kind, record in self.records.items()
            },
            "abs": self.by_choice,
            "modes": list(self.decision.modes) if self.decision else [],
            "ready": self.ready,
            "diet": self.diet,
            "not_enforced": self.not_enforced,
            "obstacle": self.obstacle,
            "next": self.next_command,
            "remedy": self.remedy,
        }


def _may_change(record: Record) -> bool:
    """Whether measuring once more may change a verdict: an A/B that settled nothing, a bench that others disturbed and
    whose interval holds a gain. On a quiet machine AMBIGUOUS means that the kernel is not clearly faster."""
    if isinstance(record, BenchRecord):
        found = record.results
        gain = found.interval is None or found.interval[1] > (found.threshold or 1.0)
        return record.verdict == "AMBIGUOUS" and is_busy(found.foreign_load) and gain
    return record.verdict == "UNDECIDED"


def readiness(target: Target, kernel: Kernel, lab: Lab) -> Readiness:
    """The evidence that counts for this kernel alone."""
    return Readiness(standing(target, kernel, lab), decide({target.name: kernel}, {target.name: target}, lab))
