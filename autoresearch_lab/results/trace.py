"""Records of kind "capture", "trace" and "review": what the device did, whose time it was, and what was made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoresearch_lab.results.base import SHA256, Dataset, KernelId, Typed, WorkloadReference

Tool = Literal["nsys", "torch"]


class WorkloadsSettings(Typed):
    """The calls of one preset were captured without a profile."""

    event: Literal["workloads"] = "workloads"
    preset: str
    dataset: Dataset | None = None


class WorkloadsResults(Typed):
    """workloads: {target: its captured set}."""

    workloads: dict[str, WorkloadReference]


class CaptureSettings(Typed):
    """What was traced. time_budget: seconds after which no step begins. compiled: the trainer's graph was."""

    event: Literal["trace"] = "trace"
    tool: Tool
    tool_version: str | None = None
    preset: str = ""
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}
    compiled: bool = False
    time_budget: float | None = None


class CaptureResults(Typed):
    """step_ms: wall time of every traced step. foreign_load: share of the cores that other processes used; None =
    unknown. metadata: the metadata file, from the root. bytes: of all files."""

    steps: int = 0
    step_ms: list[float] = []
    tokens_per_step: int | None = None
    batch_size: int | None = None
    foreign_load: float | None = None
    metadata: str = ""
    bytes: int = 0


class MetalCaptureSettings(Typed):
    """What Metal recorded. steps: how many training steps were asked for."""

    event: Literal["gputrace"] = "gputrace"
    preset: str
    steps: int
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}


class MetalCaptureResults(Typed):
    """trace: the file or folder, from the root, with its hash. files, bytes: how large it is."""

    trace: str
    trace_sha256: str
    files: int
    bytes: int
    tokens_per_step: int


class TracedFile(Typed):
    """A file beside the metadata, so that a trace can be moved as a whole. name: without a folder."""

    name: str = Field(pattern=r"^[^/\\\\]+$")
    sha256: str = Field(pattern=SHA256)
    bytes: int = Field(ge=0)


class TraceSettings(Typed):
    """The capture whose trace was read, and what was traced."""

    tool: Tool
    tool_version: str | None = None
    capture: str
    preset: str
    compiled: bool = False
    selection: dict[str, KernelId] = {}
    files: list[TracedFile] = []


class TargetTime(Typed):
    """One target's device time in ms per step. forward_ms, backward_ms and optimizer_ms are without the targets inside
    it, self_ms is their sum; total_ms is with them. share: of the device time. calls: ranges of its forward per step;
    launches: kernels, copies and fills per step (operators on a CPU)."""

    target: str
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    self_ms: float
    total_ms: float
    share: float
    calls_per_step: float
    launches_per_step: float


class KernelTime(Typed):
    """One kernel (copy, fill, operator) by name, in ms per step. under: the targets' ranges that launched it, the
    busiest first."""

    name: str
    kind: str
    ms: float
    share: float
    calls_per_step: float
    under: list[str]


class DeviceTimes(Typed):
    """Whose time the device's was, per traced step.

    step_ms: wall time of a step while traced. device_ms: all work added up = the targets' self_ms + unattributed_ms;
    busy_ms: time in which the device did anything; idle_share: of the steps, the rest. phases: device_ms by the phase
    in which the work was launched, unattributed_phases likewise; kinds: by kind of work. unlaunched_ms: work whose
    launching call the trace lacks.
    """

    steps: int = Field(ge=1)
    step_ms: float = Field(gt=0)
    device_ms: float
    busy_ms: float
    idle_share: float
    attributed_ms: float
    unattributed_ms: float
    unattributed_share: float
    unattributed_phases: dict[str, float]
    unlaunched_ms: float
    phases: dict[str, float]
    kinds: dict[str, float]
    launches_per_step: float
    targets: list[TargetTime]
    kernels: list[KernelTime]


class TraceResults(DeviceTimes):
    """What a trace shows, and where it comes from. foreign_load: as in the capture."""

    capture: str
    tool: Tool
    engine: str
    preset: str
    compiled: bool
    foreign_load: float | None = None
    remarks: list[str]


class CountersSettings(Typed):
    """A call measured by Nsight Compute. workload: its id; metrics: the counters; launches: at most so many."""

    tool: Literal["ncu"] = "ncu"
    tool_version: str | None = None
    workload: str
    metrics: list[str] = []
    launches: int | None = None


class CountersResults(Typed):
    """launches: {"kernel": its name on the device, metric in words: reading with its unit} of each."""

    launches: list[dict[str, str]]


class CountersSeeds(Typed):
    inputs: int


class MachineCodeSettings(Typed):
    """A C++ kernel's machine code, and one of its calls under perf. workload: id of the call. perf: its version; None
    where it did not watch. seconds: for which the call was repeated."""

    tool: Literal["objdump"] = "objdump"
    tool_version: str | None = None
    workload: str
    perf: str | None = None
    seconds: float | None = None


class MachineLoop(Typed):
    """One loop, without the loops inside it.

    function: symbol. file, lines: what most of it comes from, first and last line; None without. share: of the time in
    the kernel's own code; None where nothing watched. depth: loops inside it, nested. bits: width of its arithmetic.
    instructions, arithmetic: per iteration; of these fma and dot (sums of products of pairs). elements: of an array per
    iteration; None where its pointers do not tell. vector_loads, vector_stores: of floating-point registers, and loads,
    stores: of others, from and to the stack frame, per iteration; what the registers had no room for.
    """

    function: str
    file: str | None = None
    lines: tuple[int, int] | None = None
    share: float | None = None
    depth: int
    bits: int
    instructions: int
    arithmetic: int
    fma: int
    dot: int
    elements: int | None = None
    vector_loads: int
    vector_stores: int
    loads: int
    stores: int


class LineTime(Typed):
    """share: of the time in the kernel's own code. text: the line."""

    file: str
    line: int
    share: float
    text: str = ""


class MachineCodeResults(Typed):
    """loops: those that perf found running, hottest first, else those that compute floating-point numbers;
    further_loops: how many more there are. lines: where the time goes; empty where perf did not watch, and unwatched
    says why. call_ms: of one call, with what it does outside its own code; own_samples: how often perf found the
    kernel's own code running."""

    loops: list[MachineLoop]
    further_loops: int = 0
    lines: list[LineTime] = []
    unwatched: str | None = None
    call_ms: float | None = None
    own_samples: int | None = None


class ReviewFinding(Typed):
    """What a rule found. value, limit: what was compared; None where nothing was."""

    rule: str
    level: Literal["problem", "suggestion", "note"]
    text: str
    target: str | None = None
    value: float | None = None
    limit: float | None = None


class ReviewSettings(Typed):
    """The trace that was reviewed. event: of its capture, or "auto-review". trace: the record of its profile; limits:
    of the rules."""

    event: Literal["trace", "gputrace", "auto-review"]
    capture: str
    trace: str | None = None
    trace_sha256: str | None = None
    limits: dict[str, float] = {}


class ReviewResults(Typed):
    """judgement: as-expected, problem or unclear. text: what was found. reviewer: who looked."""

    judgement: str
    text: str
    reviewer: str
    findings: list[ReviewFinding] = []
