"""Records of kind "profile": where a training step's time goes. Times in ms per optimizer step."""

from __future__ import annotations

from pydantic import Field

from autoresearch_lab.results.base import Ceilings, Dataset, Facts, KernelId, Typed, WorkloadReference


class ProfileSettings(Typed):
    """selection: {target: kernel} that was trained with."""

    preset: str
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}


class TargetTimes(Typed):
    """One target's part of a training step.

    total_ms is inclusive: it holds what the targets in `includes` took inside it; self_ms does not. flops and bytes are
    the least work that the captured calls need, floor_ms the least time for it on this machine, saveable_ms what lies
    between; null = unknown. impossible: measured faster than the floor, so one of the two is wrong.
    within: {target: how many of the calls are made by that one's}; the trainer itself makes the others.
    """

    target: str
    rank: int = Field(ge=1)
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    total_ms: float
    self_ms: float
    share: float
    calls_per_step: float
    within: dict[str, float] = {}
    flops: float | None
    bytes: float | None
    floor_ms: float | None
    saveable_ms: float | None
    gflop_s: float | None
    gb_s: float | None
    impossible: bool = False
    includes: list[str] = []


class Elsewhere(Typed):
    """A named part of the time outside all targets."""

    name: str
    forward_ms: float
    backward_ms: float
    calls_per_step: float


class ProfileResults(Typed):
    """What was measured.

    step_ms is that of plain steps; attributed_ms + unattributed_ms = sum_ms were measured in instrumented steps
    (instrumented_step_ms), and sum_deviation says how far the two are apart. step_spread: relative spread of the plain
    steps. phases: ms by phase of the step. environment: threads and flags of the process.
    """

    preset: str
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}
    steps: int = 0
    step_ms: float = Field(gt=0)
    instrumented_step_ms: float | None = None
    step_spread: float | None = None
    tokens_per_step: int | None = None
    tokens_per_second: float | None = None
    ceilings: Ceilings = Ceilings()
    targets: list[TargetTimes] = []
    attributed_ms: float | None = None
    unattributed_ms: float | None = None
    sum_ms: float | None = None
    sum_deviation: float | None = None
    elsewhere: list[Elsewhere] = []
    phases: dict[str, float] = {}
    environment: Facts = {}
    workloads: dict[str, WorkloadReference] = {}
