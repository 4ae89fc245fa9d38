"""Records of kind "trial": whether one version of the trainer is better than another."""

from __future__ import annotations

from typing import Literal

from autoresearch_lab.results.base import Typed

# Of a side that does not train while the lab's own trainer does.
FailedHow = Literal["crash", "out_of_memory", "diverged", "hung"]


class RecordedSide(Typed):
    """One version. asked: in the user's words; commit: of the ref, with + for a working tree that differs from it;
    tree: git's hash of all files; options: what it overrides; fingerprint: of its dataset."""

    asked: str
    commit: str
    tree: str
    options: dict[str, str] = {}
    dataset: str
    fingerprint: str


class VersionRule(Typed):
    """What was fixed before anything was measured; see `versions.rule.TrialRule` for each number."""

    looks: list[int]
    alpha: float
    steps: int
    eval_tokens: int | None
    margin: float
    sd_floor: float
    sd_df: int
    clock_tolerance: float
    foreign_limit: float
    seed: int


class VersionSettings(Typed):
    """What was compared. evaluation: hash of the code that computes val_bpb. simpler: b is the simpler version, so SAME
    is a reason to keep it. steps: of each side for equal tokens."""

    preset: str
    evaluation: str
    a: RecordedSide
    b: RecordedSide
    rule: VersionRule
    simpler: bool = False
    steps: dict[str, int] = {}


class SidePair(Typed):
    """Two neighbouring trainings from one seed. a, b: val_bpb at equal tokens; timed: that of b in the time that a
    needs; log_ratio: ln(tokens/s of b / tokens/s of a), 0 where a step of both does the same work; delta: timed - a,
    less what this pair's own ratio would make of it. foreign_share: of the cores, used by other processes meanwhile."""

    seed: int
    a: float
    b: float
    timed: float
    log_ratio: float
    delta: float
    foreign_share: float


class SideFailure(Typed):
    side: Literal["a", "b"]
    kind: FailedHow
    note: str


class VersionResults(Typed):
    """What the trial found. All differences are b - a in bits per byte, so that less than 0 is better.

    look: number of looks taken. delta: at equal time, with bounds at `level` (one side); tokens_delta: at equal tokens.
    ratio: of tokens/s, b over a. timed_steps: of b at equal time. slope: bits per byte that a factor of e in tokens is
    worth. tokens_per_second, val_bpb, peak_memory_mb: by side, means; val_bpb's "b" is at equal time. failed: a side
    that does not train. disturbed: foreign load left the speeds unsettled. predicted_seconds: at the start, of the
    first and of all looks; seconds: that the trial took, earlier calls included; reused: runs taken over from those.
    """

    reason: str
    look: int = 0
    level: float | None = None
    delta: float | None = None
    lower: float | None = None
    upper: float | None = None
    tokens_delta: float | None = None
    tokens_lower: float | None = None
    tokens_upper: float | None = None
    ratio: float | None = None
    ratio_lower: float | None = None
    ratio_upper: float | None = None
    timed_steps: int | None = None
    slope: float | None = None
    tokens_per_second: dict[str, float] = {}
    val_bpb: dict[str, float] = {}
    peak_memory_mb: dict[str, float] = {}
    pairs: list[SidePair] = []
    failed: SideFailure | None = None
    disturbed: bool = False
    predicted_seconds: list[float] = []
    seconds: float = 0.0
    reused: int = 0
    remarks: list[str] = []
