"""The line of the ledger as a whole: what every record has, and one class per kind with typed settings and results."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from autoresearch_lab.results import ab, bench, compile, fit, note, profile, promote, trace, trial, verify
from autoresearch_lab.results.base import Artifact, Ceilings, Facts, KernelId, Mode, WorkloadReference, Workloads

SCHEMA = 2

Kind = Literal[
    "profile", "capture", "trace", "review", "compile", "verify", "bench", "ab", "trial", "fit", "promote", "demote",
    "note",
]  # fmt: skip


class Record(BaseModel):
    """What every record has.

    `id` is the SHA-256 of everything else in the line, `prev` the id of the record before (null for the first), so that
    a line changed or taken out later breaks the chain. Keys that do not apply are null. `unread`: why settings and
    results of a line of an earlier version could not be read as today's types; such a record is shown and never counts.
    """

    # Not-a-number must fail loudly when the line is written, not turn into null.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)
    schema_: int = Field(SCHEMA, alias="schema")
    id: str
    prev: str | None
    time: str
    kind: Kind
    engine: str | None = None
    device: Facts | None = None
    software: Facts | None = None
    commit: str | None = None
    target: str | None = None
    kernel: KernelId | None = None
    workloads: Any = None
    seeds: Any = None
    settings: Any = None
    results: Any = None
    verdict: str | None = None
    artifacts: list[Artifact] | None = None
    _line: Facts | None = PrivateAttr(None)
    # Set by the ledger that reads the line: what is wrong with its hash, or with its place in the chain. Such a record
    # is shown and never counts.
    _fault: str | None = PrivateAttr(None)

    @property
    def fault(self) -> str | None:
        """Why the line is not what the lab wrote there, in words; None where it is."""
        return self._fault

    @property
    def unread(self) -> bool:
        """Whether this is a line of an earlier version that today's types cannot hold."""
        return type(self) is Record

    @classmethod
    def kind_name(cls) -> str:
        """The kind of a class that stands for one."""
        return str(cls.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]

    @property
    def device_key(self) -> str | None:
        return (self.device or {}).get("key")

    @property
    def software_key(self) -> str | None:
        return (self.software or {}).get("key")

    @property
    def not_enforced(self) -> list[str]:
        """What of the confinement of others' code did not hold where this was found out; see `sandbox.attempts`."""
        return list(getattr(self.settings, "not_enforced", []))

    def details(self) -> Facts:
        """Its id, what was asked and what was found in one object, as verbs print it with --json."""
        plain = self.plain()
        return {"record": self.id, **(plain["settings"] or {}), **(plain["results"] or {})}

    def plain(self) -> Facts:
        """The line as it was written, or will be: JSON-able, with the key names of the file."""
        if self._line is not None:
            return dict(self._line)
        whole = self.model_dump(mode="json", by_alias=True)
        # Fields that the writer left out are not in the line.
        return {**whole, **self.model_dump(mode="json", by_alias=True, exclude_unset=True)}


class VerifyRecord(Record):
    kind: Literal["verify"]
    target: str
    kernel: KernelId
    workloads: Workloads | None = None
    seeds: verify.VerifySeeds | None = None
    settings: verify.VerifySettings = verify.VerifySettings()
    results: verify.VerifyResults = verify.VerifyResults()
    verdict: Literal["PASS", "FAIL"]


class BenchRecord(Record):
    kind: Literal["bench"]
    target: str
    kernel: KernelId
    workloads: Workloads | None = None
    seeds: bench.BenchSeeds | None = None
    settings: bench.BenchSettings = bench.BenchSettings()
    results: bench.BenchResults = bench.BenchResults()
    verdict: Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS"]


class AbRecord(Record):
    """target, kernel, workloads: those of the only candidate, where there is one."""

    kind: Literal["ab"]
    workloads: Workloads | None = None
    seeds: ab.AbSeeds | None = None
    settings: ab.AbSettings = ab.AbSettings()
    results: ab.AbResults = ab.AbResults()
    verdict: Literal["PROMOTE", "REJECT", "UNDECIDED"]

    def mode_of(self, arm: str) -> Mode:
        """In which mode "baseline" or "candidate" trained."""
        found = self.results.modes.get(arm)
        if found is None:  # of a version that had one mode for both
            return "compiled" if self.settings.compile == "on" else "eager"
        return found.used

    def contents(self, arm: str) -> dict[str, str]:
        """{target: content hash} of all kernels that an arm trained with."""
        found = {target: kernel.sha256 for target, kernel in self.settings.baseline.items()}
        if arm == "candidate":
            found |= {target: kernel.sha256 for target, kernel in self.settings.candidate.items()}
        return found


class VersionRecord(Record):
    """Two versions of the trainer, compared."""

    kind: Literal["trial"]
    settings: trial.VersionSettings
    results: trial.VersionResults
    verdict: Literal["BETTER", "WORSE", "SAME", "UNDECIDED"]


class FitRecord(Record):
    """Which shape of the trainer suits this machine: the best one against the default preset."""

    kind: Literal["fit"]
    settings: fit.FitSettings
    results: fit.FitResults
    verdict: Literal["BETTER", "WORSE", "UNDECIDED"]


class ProfileRecord(Record):
    """workloads: {target: its captured set}."""

    kind: Literal["profile"]
    workloads: dict[str, WorkloadReference] = {}
    settings: profile.ProfileSettings
    results: profile.ProfileResults
    verdict: None = None


class CaptureRecord(Record):
    kind: Literal["capture"]
    settings: trace.CaptureSettings
    results: trace.CaptureResults
    verdict: None = None


class MetalCaptureRecord(Record):
    kind: Literal["capture"]
    settings: trace.MetalCaptureSettings
    results: trace.MetalCaptureResults
    verdict: None = None


class WorkloadsRecord(Record):
    """workloads: {target: its captured set}."""

    kind: Literal["capture"]
    workloads: dict[str, WorkloadReference]
    settings: trace.WorkloadsSettings
    results: trace.WorkloadsResults
    verdict: None = None


class TraceRecord(Record):
    kind: Literal["trace"]
    settings: trace.TraceSettings
    results: trace.TraceResults
    verdict: None = None


class DeepRecord(Record):
    """One call of a kernel, looked into."""

    kind: Literal["trace"]
    target: str
    kernel: KernelId
    workloads: Workloads | None = None
    seeds: trace.CountersSeeds | None = None
    verdict: None = None


class CountersRecord(DeepRecord):
    settings: trace.CountersSettings
    results: trace.CountersResults


class MachineCodeRecord(DeepRecord):
    settings: trace.MachineCodeSettings
    results: trace.MachineCodeResults


class ReviewRecord(Record):
    kind: Literal["review"]
    settings: trace.ReviewSettings
    results: trace.ReviewResults
    verdict: None = None


class CompileRecord(Record):
    kind: Literal["compile"]
    target: str
    kernel: KernelId
    settings: compile.CompileSettings
    results: compile.CompileResults
    verdict: None = None


class PromoteRecord(Record):
    kind: Literal["promote"]
    target: str
    kernel: KernelId
    workloads: Workloads | None = None
    settings: promote.PromoteSettings
    results: promote.PromoteResults
    verdict: None = None


class DemoteRecord(Record):
    """kernel: the one that was taken out."""

    kind: Literal["demote"]
    target: str
    settings: promote.DemoteSettings
    results: promote.DemoteResults
    verdict: None = None


class NoteRecord(Record):
    """What stands in the ledger and judges nothing."""

    kind: Literal["note"]
    verdict: None = None


class CeilingsRecord(NoteRecord):
    settings: note.CeilingsSettings
    results: Ceilings


class WorkspaceRecord(NoteRecord):
    """kernel: the workspace's, as it was opened."""

    target: str
    kernel: KernelId
    workloads: Workloads | None = None
    settings: note.WorkspaceSettings
    results: None = None


class FailedRecord(NoteRecord):
    workloads: Workloads | None = None
    settings: note.FailedSettings
    results: note.FailedResults


class AttemptRecord(NoteRecord):
    settings: note.AttemptSettings
    results: note.AttemptResults


class IdeaRecord(NoteRecord):
    settings: note.IdeaSettings
    results: note.IdeaResults


class MergeRecord(NoteRecord):
    """What follows comes from another ledger, and has its place in the chain of that one."""

    settings: note.MergeSettings
    results: note.MergeResults


class SuiteRecord(NoteRecord):
    settings: note.SuiteSettings
    results: note.SuiteResults


class TrainRecord(NoteRecord):
    """results: the summary of the run, as train.py prints it."""

    settings: note.TrainSettings
    results: Facts = {}


class CampaignRecord(NoteRecord):
    """The end of a campaign."""

    settings: note.CampaignSettings
    results: note.CampaignResults


class CampaignStepRecord(NoteRecord):
    """The end of one of its steps."""

    settings: note.CampaignSettings
    results: note.RecordedStep


class TrialRecord(NoteRecord):
    """No kernel in the field of that name: a note on a planted kernel is evidence for nothing."""

    workloads: Workloads | None = None
    settings: note.TrialSettings
    results: note.TrialResults


class WorkRecord(NoteRecord):
    target: str
    workloads: Workloads | None = None
    seeds: note.WorkSeeds | None = None
    settings: note.WorkSettings
    results: note.WorkResults


class TableRecord(NoteRecord):
    settings: note.TableSettings
    results: note.TableResults


# A kind alone says which class, or a kind together with `settings.event` (captures, notes) or `settings.tool` (traces).
CLASSES: dict[str, type[Record]] = {
    "verify": VerifyRecord,
    "bench": BenchRecord,
    "ab": AbRecord,
    "trial": VersionRecord,
    "fit": FitRecord,
    "profile": ProfileRecord,
    "review": ReviewRecord,
    "compile": CompileRecord,
    "promote": PromoteRecord,
    "demote": DemoteRecord,
    "capture trace": CaptureRecord,
    "capture gputrace": MetalCaptureRecord,
    "capture workloads": WorkloadsRecord,
    "trace nsys": TraceRecord,
    "trace torch": TraceRecord,
    "trace ncu": CountersRecord,
    "trace objdump": MachineCodeRecord,
    "note ceilings": CeilingsRecord,
    "note workspace": WorkspaceRecord,
    "note failed": FailedRecord,
    "note proposal": AttemptRecord,
    "note idea": IdeaRecord,
    "note merge": MergeRecord,
    "note suite": SuiteRecord,
    "note train": TrainRecord,
    "note campaign": CampaignRecord,
    "note campaign-step": CampaignStepRecord,
    "note calibration-trial": TrialRecord,
    "note calibration-work": WorkRecord,
    "note calibration": TableRecord,
}

R = TypeVar("R", bound=Record)


def class_of(line: Facts) -> type[Record]:
    """The class of a line. Raises ValueError for a kind, or an event of that kind, that nobody knows."""
    kind, settings = line.get("kind"), line.get("settings")
    about = settings if isinstance(settings, dict) else {}
    for name in (str(kind), f"{kind} {about.get('event')}", f"{kind} {about.get('tool')}"):
        if name in CLASSES:
            return CLASSES[name]
    raise ValueError(f"a {kind} record of an unknown event or tool")
