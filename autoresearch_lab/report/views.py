"""What the report shows, in its own terms: the readers fill these from records, charts and template draw them.

Every number is one that a record holds; what a record does not hold stays None and is shown as a dash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from autoresearch_lab.campaign.record import RecordedCampaign


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval; `low` or `high` is None where the interval is open on that side."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None  # confidence level, 0..1


@dataclass(frozen=True)
class Source:
    """The record behind a view."""

    id: str
    time: str
    kind: str
    stale: tuple[str, ...] | None = None  # why it does not count here now; () = it counts; None = not compared
    shipped: bool = False

    @property
    def counts(self) -> bool:
        return not self.shipped and not self.stale


@dataclass(frozen=True)
class Hot:
    """One target's share of the training step; milliseconds per optimizer step."""

    target: str
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    total_ms: float
    share: float | None
    calls: float | None
    flops: float | None
    bytes: float | None
    floor_ms: float | None
    saveable_ms: float | None
    gflop_s: float | None
    gb_s: float | None
    includes: tuple[str, ...] = ()  # smaller targets whose time is inside total_ms
    impossible: bool = False  # measured faster than the floor: one of the two is wrong


@dataclass(frozen=True)
class Part:
    """A named part of the step outside all targets; milliseconds per optimizer step."""

    name: str
    forward_ms: float
    backward_ms: float


@dataclass(frozen=True)
class Profile:
    """A profile of the real training step."""

    source: Source
    preset: str
    dataset: str
    step_ms: float | None
    tokens_per_second: float | None
    unattributed_ms: float | None
    attributed_ms: float | None
    targets: tuple[Hot, ...]
    elsewhere: tuple[Part, ...] = ()
    bandwidths: tuple[tuple[float, float], ...] = ()  # (bytes of the working set, GB/s)
    compute: dict[str, float] = field(default_factory=dict)  # dtype -> GFLOP/s


@dataclass(frozen=True)
class Speed:
    """One bench comparison: how many times faster than the baseline, > 1 = faster."""

    source: Source
    target: str
    kernel: str
    arm: str  # "candidate" or "library"
    direction: str  # "forward", "backward", or "both" together
    ratio: Estimate
    decisive: bool  # the direction that the verdict rests on
    floor: float | None  # how far the baseline was from itself, as a ratio above 1: 0.012 = 1.2 %
    baseline_ms: float | None  # per optimizer step
    arm_ms: float | None
    verdict: str | None


@dataclass(frozen=True)
class Check:
    """One check of a verification. status: pass, fail, skip (not reached), or na (does not apply)."""

    name: str
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """One verify record."""

    source: Source
    target: str
    kernel: str
    verdict: str
    checks: tuple[Check, ...]
    error_ratio: float | None  # worst error as a multiple of what the contract allows
    reason: str

    def check(self, name: str) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)


@dataclass(frozen=True)
class Gate:
    """One of the three gates of an A/B."""

    name: str
    passed: bool | None
    estimate: Estimate | None
    unit: str
    bound: str
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A line of a chart: x = optimizer step (or seconds), y = the value."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class AB:
    """One A/B in the trainer."""

    source: Source
    title: str
    contents: dict[str, str]  # target -> content hash of the candidate's kernels
    over: tuple[str, ...]  # "target=kernel" of the other arm where that is not the baseline
    preset: str
    verdict: str
    reason: str
    ratio: Estimate | None  # candidate / baseline tokens per second
    process_ratios: tuple[float, ...]
    before_tokens_s: float | None
    after_tokens_s: float | None
    before_bpb: float | None
    after_bpb: float | None
    equal_time_bpb: float | None  # the candidate after as much time as the baseline had
    deltas: tuple[tuple[str, float], ...]  # (seed, delta val_bpb at equal tokens)
    delta: Estimate | None
    margin: float | None
    benefit: Estimate | None
    gates: tuple[Gate, ...]
    losses: tuple[Curve, ...]
    divergence: tuple[Curve, ...]
    predicted: float | None  # relative gain, e.g. 0.12
    realised: float | None


@dataclass(frozen=True)
class Event:
    """A promotion or a demotion."""

    source: Source
    kind: str
    target: str
    kernel: str
    sha256: str
    device: str
    evidence: str | None
    in_force: bool
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """One line of the evidence table."""

    source: Source
    target: str
    kernel: str
    sha256: str
    verdict: str
    summary: str


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    generated: str
    root: str
    machine: dict[str, str]
    software: dict[str, str]
    commit: str | None
    dataset: str
    device_key: str
    story: AB | None
    profile: Profile | None
    speeds: tuple[Speed, ...]
    verifications: tuple[Verification, ...]
    abs: tuple[AB, ...]
    events: tuple[Event, ...]
    evidence: tuple[Evidence, ...]
    counts: dict[str, int]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    campaign: RecordedCampaign | None = None

    @property
    def empty(self) -> bool:
        return not self.evidence and self.profile is None
