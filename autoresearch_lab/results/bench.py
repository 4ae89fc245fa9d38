"""Records of kind "bench": is the kernel faster, for sure?

Every ratio is the time of another arm / the time of the candidate: above 1 the candidate is faster.
"""

from __future__ import annotations

from autoresearch_lab.results.base import Ends, Facts, KernelId, Place, Typed

BUSY = 0.2  # a share of the machine's cores; see also Rule.crowded


def is_busy(foreign_load: float | None) -> bool:
    """Whether other processes used so much of the machine that the reader should know."""
    return (foreign_load or 0.0) > BUSY


class BenchSeeds(Typed):
    """bench: of inputs and orders; processes: of each process."""

    bench: int
    processes: list[int] = []


class ArmId(Typed):
    """A kernel under measurement. role: baseline, control, library, standing, graph or candidate."""

    role: str = "baseline"
    name: str
    sha256: str


class BenchRule(Typed):
    """What was fixed before anything was measured; see `bench.rule.Rule` for each number."""

    looks: list[int]
    error: float
    margin: float
    least_sd: float
    control_error: float
    coarsest: float
    regression: float
    disturbance: float
    outweighed: float | None = None
    crowded: float
    unclean: float
    clear: float
    interrupted: float
    resamples: int


class BenchSettings(Typed):
    """verify, ceilings: the records it rests on. standing: {target: kernel} of what the trainer ran then for a call of
    this target, parts included. budget_seconds: after which no process is added, compilation aside. not_enforced: what
    of the confinement this system cannot do."""

    contract_sha256: str | None = None
    verify: str | None = None
    ceilings: str | None = None
    baseline: ArmId | None = None
    libraries: list[ArmId] = []
    standing: dict[str, KernelId] = {}
    budget_seconds: float | None = None
    rule: BenchRule | None = None
    not_enforced: list[str] = []
    executor: Place | None = None
    calibration: str | None = None


class Ratio(Typed):
    """A ratio of times with its interval at the record's level."""

    ratio: float
    interval: Ends


class DirectionRatio(Ratio):
    """All workloads in one direction; times in ms per optimizer step."""

    baseline_ms: float
    candidate_ms: float


class WorkloadDirection(Ratio):
    """One workload in one direction; times in microseconds per call. The library's lists follow `libraries`."""

    baseline_us: float
    candidate_us: float
    library_us: list[float] = []
    library_ratios: list[Ratio] = []


class WorkloadTimes(Typed):
    """One captured call. directions: forward, backward, both."""

    id: str
    calls_per_step: float
    directions: dict[str, WorkloadDirection]

    @property
    def whole(self) -> WorkloadDirection:
        """The whole call: forward and backward where the trainer needs gradients."""
        return self.directions.get("both") or self.directions["forward"]


class LibraryRatio(Ratio):
    """A library's kernel: against the candidate, and (baseline_*) the baseline's time / its own."""

    name: str
    baseline_ratio: float
    baseline_interval: Ends


class Disturbed(Typed):
    """How often the system interfered with an arm. aside: share of calls set aside and repeated; unclean: share of
    samples without an undisturbed call."""

    aside: float
    unclean: float


class Replayed(Typed):
    """Short calls as replayed CUDA graphs. times: {arm: {workload: [forward, backward] in us}}; failed: {arm: why}."""

    times: dict[str, dict[str, list[float]]]
    failed: dict[str, str]


class ArmTime(Typed):
    """Median time of an arm in ms per optimizer step, in the deciding direction. compiled: through torch.compile."""

    role: str
    name: str
    compiled: bool = False
    ms: float


class Prediction(Typed):
    """What the uncompiled trainer should gain by Amdahl's law on the profile's numbers; times in ms per optimizer step.
    saveable_ms: the most that can be saved by the profile's floor, null = unknown."""

    step_ms: float | None = None
    target_ms: float | None = None
    share: float | None = None
    saveable_ms: float | None = None
    saved_ms: float | None = None
    saved_ms_interval: Ends | None = None
    step_speedup: float | None = None
    step_speedup_interval: Ends | None = None


class BenchResults(Typed):
    """What the samples say.

    ratio, interval: against the arm named `against`, in the deciding `direction`; level: of each end of an interval.
    floor: how far the baseline may differ from itself; threshold: what a win has to exceed; control: the baseline
    against itself. looks: how often the data were looked at; seconds: that the measurement took; rounds,
    process_ratios: by process. minimum_ratio: of the shortest times; shown, never decided on. library: the best of
    `libraries`; beats_library: for sure. left_out: {library's kernel: why it is no arm}. disturbance: how much longer
    the baseline takes right after the candidate ([low, ratio, high]). first_call_ms, peak_bytes: by arm. foreign_load:
    share of the cores that other processes used; load_average: of 1, 5 and 15 minutes. process, timer: of the first
    process. warm: {arm: {workload: [forward, backward] in us}} with a warm cache. arms: what each takes per step, and
    least_ms what it has to take by the machine's ceilings. in_graph: the compiled baseline against the candidate, each
    within a graph. graph_break: why the candidate is not one graph; None where it is, or was not compiled.
    compile_seconds: by process. predicted: gain in the trainer over what it uses now; None without a profile of that.
    """

    reason: str = ""
    ratio: float | None = None
    interval: Ends | None = None
    level: float | None = None
    against: str = ""
    direction: str = "both"
    threshold: float | None = None
    floor: float | None = None
    control: Ratio | None = None
    looks: int | None = None
    seconds: float | None = None
    rounds: list[int] = []
    process_ratios: list[float] = []
    minimum_ratio: float | None = None
    directions: dict[str, DirectionRatio] = {}
    workloads: list[WorkloadTimes] = []
    libraries: list[LibraryRatio] = []
    library: LibraryRatio | None = None
    left_out: dict[str, str] = {}
    beats_library: bool | None = None
    disturbance: list[float] | None = None
    first_call_ms: dict[str, list[float]] = {}
    peak_bytes: dict[str, list[int | None]] | None = None
    foreign_load: float | None = None
    disturbed: dict[str, Disturbed] = {}
    load_average: list[float] | None = None
    process: Facts = {}
    timer: Facts | None = None
    warm: dict[str, dict[str, list[float]]] | None = None
    replayed: Replayed | None = None
    configurations: list[list[Facts]] = []
    arms: list[ArmTime] = []
    least_ms: float | None = None
    in_graph: Ratio | None = None
    graph_break: str | None = None
    compile_seconds: list[float] = []
    remarks: list[str] = []
    predicted: Prediction | None = None

    @property
    def library_ms(self) -> dict[str, float]:
        """What each library's kernel, the compiled baseline among them, takes in ms per optimizer step."""
        return {arm.name: arm.ms for arm in self.arms if arm.role == "library"}

    def saved_ms(self, compiled: bool, standing: bool) -> float | None:
        """ms per optimizer step that the candidate saves: within a graph or not, over what stood in the trainer or over
        the baseline; never more than what lies above the floor. None where the arms for that were not timed."""
        times = {(arm.role, arm.compiled): arm.ms for arm in self.arms}
        before = times.get(("standing" if standing else "library" if compiled else "baseline", compiled))
        after = times.get(("graph" if compiled else "candidate", compiled))
        if before is None or after is None:
            return None
        floor = self.least_ms or 0.0
        return before - (max(after, floor) if floor < before else after)
