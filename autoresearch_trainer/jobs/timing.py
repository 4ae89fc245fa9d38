"""Jobs that time kernels: `time`, several against each other in one process, and `one_call`, for tools that watch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict
from typing_extensions import TypedDict

from autoresearch_trainer.jobs.base import Count, Facts, Job, JobAnswer, JobArgs, Selection, Spec, Text
from autoresearch_trainer.jobs.calls import Configuration
from autoresearch_trainer.kernel_files import KernelFile

OUTPUTS = "outputs.safetensors"
# Below the run folder: what torch.compile makes of the arms.
GRAPHS = "cache/graphs"
# Nested lists, named by their axes from the outside in.
PerCall = list[float]  # forward, backward
# A visit: the workload, and the arms in their order. JSON has no tuples, so that a list is taken for one.
Visited = Annotated[tuple[Count, list[Count]], Strict(False)]
PerWorkload = list[list[PerCall]]  # arm, workload


class TimedCall(TypedDict):
    """A workload to time. gradient: backward too; shifts: by how many rows each of its contents is rolled."""

    id: str
    args: list[Spec]
    gradient: bool
    shifts: list[int]


class TimeArgs(JobArgs):
    """arms: the kernels, the first being the reference; compiled: which of them go through torch.compile first;
    standing: which of them call the kernels in `parts` for smaller targets, where the others call the baselines.
    inputs: a safetensors file with "<workload id>/<argument>". seconds: to measure for, within least_rounds and
    most_rounds. calls: per workload how many make a sample at least, null = the process finds out. checked: outputs
    kept per arm and workload. memory: whether to measure peak memory."""

    arms: list[KernelFile] = Field(min_length=1)
    compiled: list[int] = []
    standing: list[int] = []
    parts: Selection = {}
    inputs: str
    workloads: list[TimedCall]
    seconds: float
    least_rounds: int
    most_rounds: int
    seed: int
    calls: list[int] | None = None
    checked: int
    memory: bool


class DisturbedCounts(JobAnswer):
    """How often the system interfered with one arm: `calls` made in all, `aside` set aside for that, `samples` taken,
    `unclean` ones made of disturbed calls alone."""

    calls: Count
    aside: Count
    samples: Count
    unclean: Count


class GpuTimes(JobAnswer):
    """Beside the rounds, on a GPU; lists by (arm, workload), times [forward, backward] in ns, medians.

    warm: by events, caches warm. open_host and open_device: by the host's clock and by events, without a backlog.
    queue: until the call returned. waits: the kernel makes the host wait. host_seconds, seen_seconds: all windows by
    the host's clock and by events; most_excess_us: the most by which one was longer by events. replayed: as CUDA
    graphs, null where there is none; not_replayed: why a short call has none.
    """

    warm: PerWorkload
    open_host: PerWorkload
    open_device: PerWorkload
    queue: PerWorkload
    waits: list[list[bool]]
    host_seconds: float
    seen_seconds: float
    most_excess_us: float
    replayed: list[list[PerCall | None]]
    not_replayed: list[list[Text | None]]


class TimeAnswer(JobAnswer):
    """samples: (round, visit, arm, workload, [forward, backward]) in ns per call, each the mean over `calls` (per
    workload) calls; clean: (round, visit, arm, workload), whether nothing interrupted these. orders: per round
    [[workload, [arm, ...]], ...] as visited. foreign_load: per round, the share of the cores that other processes used,
    null = unknown. disturbed: per arm. span_seconds: all rounds together; timed_seconds: inside windows; window_ns:
    what an empty window shows. first_call_ms, peak_bytes: (arm, workload). load_average: the system's. process: its
    settings. timer: how times were taken. repeats: calls in one window, each waiting for the one before (MLX).
    graph_breaks: per arm why it is not one graph, null where it is, or was not compiled; empty in MLX.
    """

    samples: list[list[PerWorkload]]
    clean: list[list[list[list[bool]]]]
    orders: list[list[Visited]]
    foreign_load: list[float | None]
    calls: list[Count]
    disturbed: list[DisturbedCounts]
    span_seconds: float
    timed_seconds: float
    window_ns: float
    first_call_ms: list[list[float]]
    peak_bytes: list[list[Count | None]] | None
    load_average: list[float]
    process: Facts
    timer: Facts | None = None
    gpu: GpuTimes | None = None
    configurations: list[Configuration] = []
    repeats: Count | None = None
    graph_breaks: list[Text | None] = []


class OneCallArgs(JobArgs):
    """inputs: a safetensors file with "<workload id>/<argument>". seconds: for which a CPU repeats the call."""

    kernel: KernelFile
    workload: TimedCall
    inputs: str
    seconds: float = 0.0


class OneCallAnswer(JobAnswer):
    """gradient: backward was called as well. native: what the kernel's C++ source was compiled to, null without one.
    call_ms: median of the repeated calls, null on a GPU."""

    gradient: bool
    native: Text | None = None
    call_ms: float | None = None


TIME = Job("time", TimeArgs, TimeAnswer)
ONE_CALL = Job("one_call", OneCallArgs, OneCallAnswer)
