"""Jobs that watch the real trainer: `profile`, `trace` (PyTorch's profiler, Nsight Systems) and `gputrace` (Metal)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from autoresearch_common.workload import CapturedWorkload, checked
from autoresearch_trainer.jobs.base import (
    Count,
    DatasetUsed,
    Facts,
    Job,
    JobAnswer,
    JobArgs,
    KernelUsed,
    Selection,
    Text,
)


@dataclass(frozen=True)
class TargetInfo:
    """What a target's contract says of its calls: the names of its parameters, in order, its phase, and which of them
    get gradients or are scalars (an engine whose arrays do not tell asks here)."""

    args: tuple[str, ...]
    phase: Literal["forward", "optimizer"]
    grads: frozenset[str] = frozenset()
    scalars: frozenset[str] = frozenset()


class TrainerArgs(JobArgs):
    """A trainer with the kernels of `selection` (baselines elsewhere) on the dataset in the folder `dataset_dir`."""

    preset: str
    dataset_dir: str
    selection: Selection = {}
    seed: int = 42


class TrainerAnswer(JobAnswer):
    """What was trained: the dataset, and every target's kernel."""

    dataset: DatasetUsed
    selection: dict[Text, KernelUsed]


class ProfileArgs(TrainerArgs):
    """targets: what the contracts say. steps: at most so many pairs of a plain and an instrumented step; 0 = capture
    only. warmup: steps before, null = what the engine needs."""

    targets: dict[str, TargetInfo]
    steps: int = Field(ge=0)
    warmup: int | None = None


CapturedCall = Annotated[CapturedWorkload, AfterValidator(checked)]


class TargetShare(JobAnswer):
    """One target's times in ms per optimizer step. total_ms holds what the targets inside it took, self_ms does not.
    within: {target: how many of the calls are made inside that one's}."""

    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    total_ms: float
    self_ms: float
    calls_per_step: float
    within: dict[Text, float]


class ElsewhereShare(JobAnswer):
    """A named part of the time outside all targets, in ms per step."""

    name: Text
    forward_ms: float
    backward_ms: float
    calls_per_step: float


class StepTimes(JobAnswer):
    """Where a step's time goes, in ms per step. steps: pairs that were run. step_ms: of plain steps;
    instrumented_step_ms: of watched ones, without the cost of looking; attributed_ms + unattributed_ms = sum_ms, and
    sum_deviation = sum_ms / step_ms - 1. step_spread: relative standard deviation of the plain steps. phases: {name:
    ms}."""

    steps: Count
    step_ms: float
    instrumented_step_ms: float
    attributed_ms: float
    unattributed_ms: float
    sum_ms: float
    sum_deviation: float
    step_spread: float
    phases: dict[Text, float]
    targets: dict[Text, TargetShare]
    elsewhere: list[ElsewhereShare]
    tokens_per_step: Count
    tokens_per_second: float


class ProfileAnswer(TrainerAnswer):
    """workloads: {target: its distinct calls}. environment: settings of the process. times: null where only calls were
    captured."""

    device: Text
    workloads: dict[Text, list[CapturedCall]]
    environment: Facts
    times: StepTimes | None = None


class TraceArgs(TrainerArgs):
    """tool: "nsys", with which the process was started, or "torch", whose profiler writes `output` (*.json,
    *.json.gz). After `warmup` steps at most `steps` are traced, of which none begins after `seconds`; one always is."""

    tool: Literal["nsys", "torch"]
    compiled: bool
    steps: int
    seconds: float
    warmup: int
    output: str | None = None


class TraceAnswer(TrainerAnswer):
    """step_ms: wall time of each traced step. foreign_load: share of the cores that other processes used meanwhile,
    null = unknown."""

    steps: Count
    step_ms: list[float]
    tokens_per_step: Count
    batch_size: Count
    compiled: bool
    foreign_load: float | None
    environment: Facts


class GputraceArgs(TrainerArgs):
    """output: folder (*.gputrace) that Metal writes; it must not exist."""

    steps: int
    output: str


class GputraceAnswer(TrainerAnswer):
    """How many steps were recorded, and the tokens of one."""

    steps: Count
    tokens_per_step: Count


PROFILE = Job("profile", ProfileArgs, ProfileAnswer)
TRACE = Job("trace", TraceArgs, TraceAnswer)
GPUTRACE = Job("gputrace", GputraceArgs, GputraceAnswer)
