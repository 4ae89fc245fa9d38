"""Records of kind "profile": where a training step's time goes. Times in ms per optimizer step."""

from __future__ import annotations

from pydantic import Field

from autoresearch_lab.results.base import (
    Amount,
    Ceilings,
    Dataset,
    Facts,
    KernelId,
    Ms,
    Rest,
    Typed,
    Work,
    WorkloadReference,
)


class ProfileSettings(Typed):
    """selection: {target: kernel} that was trained with."""

    preset: str
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}


class TargetTimes(Typed):
    """One target's part of a training step.

    total_ms is inclusive: it holds what the targets in `includes` took inside it; self_ms does not. flops and bytes are
    the least work that the captured calls need, floor_ms the least time for it on this machine, saveable_ms what lies
    between, and at least what the targets in `includes` could save inside it; null = unknown. impossible: measured
    faster than the floor, so one of the two is wrong.
    within: {target: how many of the calls are made by that one's}; the trainer itself makes the others.
    """

    target: str
    rank: int = Field(ge=1, le=1000)
    forward_ms: Ms
    backward_ms: Ms
    optimizer_ms: Ms
    total_ms: Ms
    self_ms: Ms
    share: float = Field(ge=0, le=1e3)
    calls_per_step: Amount
    within: dict[str, Amount] = {}
    flops: Work | None
    bytes: Work | None
    floor_ms: Ms | None
    saveable_ms: Ms | None
    gflop_s: Amount | None
    gb_s: Amount | None
    impossible: bool = False
    includes: list[str] = []


class Elsewhere(Typed):
    """A named part of the time outside all targets."""

    name: str
    forward_ms: Ms
    backward_ms: Ms
    calls_per_step: Amount


class ProfileResults(Typed):
    """What was measured.

    step_ms is that of plain steps; attributed_ms + unattributed_ms = sum_ms were measured in instrumented steps
    (instrumented_step_ms), and sum_deviation says how far the two are apart. step_spread: relative spread of the plain
    steps. phases: ms by phase of the step. environment: threads and flags of the process.
    """

    preset: str
    dataset: Dataset | None = None
    selection: dict[str, KernelId] = {}
    steps: int = Field(0, ge=0, le=10**9)
    step_ms: float = Field(gt=0, le=1e8)
    instrumented_step_ms: Ms | None = None
    step_spread: Amount | None = None
    tokens_per_step: int | None = Field(None, ge=1, le=10**12)
    tokens_per_second: Amount | None = None
    ceilings: Ceilings = Ceilings()
    targets: list[TargetTimes] = []
    attributed_ms: Ms | None = None
    unattributed_ms: Rest | None = None
    sum_ms: Ms | None = None
    sum_deviation: Rest | None = None
    elsewhere: list[Elsewhere] = []
    phases: dict[str, Rest] = {}
    environment: Facts = {}
    workloads: dict[str, WorkloadReference] = {}
