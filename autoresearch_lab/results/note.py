"""Records of kind "note": what happened that is no verdict on a kernel. `settings.event` says which."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoresearch_lab.results.base import Ends, Facts, KernelId, Place, Typed


class CeilingsSettings(Typed):
    """The machine's ceilings were measured; results are `base.Ceilings`."""

    event: Literal["ceilings"] = "ceilings"
    executor: Place | None = None
    calibration: str | None = None


class WorkspaceSettings(Typed):
    """A workspace was opened. id: its own; lock_sha256: of its lock file; started_from: the kernel in it at first."""

    event: Literal["workspace"] = "workspace"
    id: str
    workspace: str
    lock_sha256: str
    contract_sha256: str
    started_from: KernelId


class FailedSettings(Typed):
    """A step of orchestrate could not be done."""

    event: Literal["failed"] = "failed"
    step: str
    contract_sha256: str | None = None


class FailedResults(Typed):
    reason: str


class AttemptSettings(Typed):
    """A kernel that was proposed in a workspace."""

    event: Literal["proposal"] = "proposal"
    workspace_id: str


class AttemptResults(Typed):
    """What the lab said of it. verify, bench: verdicts, None where it did not come to that. ratio: time of the
    baseline / of the kernel, with its interval. reason: why the verdict is what it is."""

    number: int
    kernel_sha256: str
    verify: str | None = None
    bench: str | None = None
    ratio: float | None = None
    interval: Ends | None = None
    reason: str = ""


class IdeaSettings(Typed):
    """A researcher's change of the trainer. branch: on which what is kept stands."""

    event: Literal["idea"] = "idea"
    branch: str


class IdeaResults(Typed):
    """How far the lab is with it; the newest note of a number counts. base: the commit that was kept so far; commit,
    tree: what was made of it, None where that is nothing to be tried. status: proposed, until the lab has decided;
    keep, discard or crash after a trial or a review; refused for what may not be changed; failed: there was no idea.
    reason: why. trials: ids of their records."""

    number: int
    base: str
    commit: str | None = None
    tree: str | None = None
    description: str = ""
    status: Literal["proposed", "keep", "discard", "crash", "refused", "failed"]
    reason: str = ""
    trials: list[str] = []


class MergeSettings(Typed):
    """Records of another ledger follow. source: its file, as it was named."""

    event: Literal["merge"] = "merge"
    source: str


class MergeResults(Typed):
    """records: how many of it follow, as they stand there; known: how many were here already. first, last: ids of those
    that follow."""

    records: int = Field(ge=1)
    known: int = Field(ge=0)
    first: str
    last: str


class SuiteSettings(Typed):
    """A/Bs with several presets. presets: {preset: id of the A/B}."""

    event: Literal["suite"] = "suite"
    presets: dict[str, str]


class SuiteResults(Typed):
    verdict: str
    reason: str


class TrainSettings(Typed):
    """The closing training run of a campaign. dataset: fingerprint; seconds: its time budget; kernels: those used."""

    event: Literal["train"] = "train"
    preset: str
    dataset: str
    seconds: float
    kernels: dict[str, KernelId] = {}


class CampaignSettings(Typed):
    """Steps that are walked one after the other; event: one step ended, or the whole. campaign: a short id that the
    notes of one campaign share. seconds: what it was given, None = as long as it takes. preset and dataset: what it
    trained."""

    event: Literal["campaign-step", "campaign"] = "campaign"
    campaign: str
    plan: str
    seconds: float | None = None
    preset: str
    dataset: str
    rehearsed: bool = False


class RecordedStep(Typed):
    """How a step ended. state: done; negative (its end was reached, its answer is no); failed; or skipped (not begun).
    exit_code: that of the command, or what a verb would have ended with; None = none, or it ran out of time. seconds:
    how long it took. reason: in a line, why it did not end as `done`."""

    step: str
    state: Literal["done", "negative", "failed", "skipped"] = "done"
    exit_code: int | None = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def came_through(self) -> bool:
        """Whether what needs this step can be done."""
        return self.state in ("done", "negative")


class CampaignResults(Typed):
    """How a campaign ended. seconds: of the whole; steps: how each ended, in their order."""

    seconds: float
    steps: list[RecordedStep]

    @property
    def failed(self) -> list[RecordedStep]:
        return [step for step in self.steps if step.state == "failed"]


class TrialId(Typed):
    """One trial of a calibration. plant: what was planted; effect: its size, as a share of the time."""

    stage: str
    plant: str
    effect: float
    target: str
    number: int


class TrialSettings(Typed):
    """A trial. conditions: what all trials of one table share."""

    event: Literal["calibration-trial"] = "calibration-trial"
    trial: TrialId
    conditions: Facts = {}


class TrialResults(Typed):
    """verdict: FAILED where the stage gave none. seconds: that it took. The others are those of the stage's record,
    which lies under `record` in the calibration's own ledger."""

    verdict: str
    reason: str = ""
    seconds: float
    record: str | None = None
    kernel: KernelId | None = None
    seeds: Facts | None = None
    attempt: int | None = None
    rule_alpha: float | None = None
    ratio: float | None = None
    interval: Ends | None = None
    looks: int | None = None
    look: int | None = None
    failed_check: str | None = None
    foreign_load: float | None = None
    load_average: list[float] | None = None
    # Of an A/B: foreign load ended it. Of a bench, in earlier records: its counts of interrupted calls.
    disturbed: bool | Facts | None = None


class WorkSettings(Typed):
    """Extra work was fitted to a target. seconds, processes: of each measurement."""

    event: Literal["calibration-work"] = "calibration-work"
    seconds: float | None = None
    processes: int | None = None


class WorkResults(Typed):
    """step_seconds: time of all calls of an optimizer step. per_share: {elements of the first argument: turns that add
    the time of a whole call}. fixed: share that the wrapper alone adds. measured: {effect: interval of what the turns
    for it really add, as a ratio of times}."""

    target: str
    step_seconds: float
    per_share: dict[int, float]
    fixed: float
    measured: dict[float, list[float]]


class WorkSeeds(Typed):
    work: int


class TableSettings(Typed):
    """A calibration's table was made. plan: how many trials of what."""

    event: Literal["calibration"] = "calibration"
    plan: Facts


class CountedShare(Typed):
    """count out of total, with the exact interval of the underlying rate."""

    count: int
    total: int
    rate: float | None
    interval: Ends


class CountedTrials(Typed):
    """All trials of one kind. in_time: how often FASTER came within the promised time. seconds: mean and worst."""

    stage: str
    plant: str
    effect: float
    label: str
    planned: int
    done: int
    verdicts: dict[str, int]
    shares: dict[str, CountedShare]
    in_time: int
    seconds: dict[str, float | None]


class CountedPromise(CountedShare):
    """A promise and the count it rests on. state: held, broken or open. wanted: bound of the rate."""

    text: str
    state: str
    wanted: float


class TableResults(Typed):
    """What the trials say so far. missing: trials not made yet; load: of the machine meanwhile; commits: of the
    project then; wrong: trials that went wrong, in words; made, seconds: of the call that made the table."""

    rows: list[CountedTrials] = []
    promises: list[CountedPromise] = []
    missing: int = 0
    work: dict[str, WorkResults] = {}
    load: Facts = {}
    commits: list[str] = []
    wrong: list[str] = []
    made: int = 0
    seconds: float = 0.0
