"""What a watched step of the trainer is made of: its times, and the names of its ranges, which those who open them and
those who read them share.

One range per traced step, in it one per phase, and in those one per call of a target, forward and backward.
"""

import math
import statistics
from collections.abc import Sequence

from autoresearch_trainer.jobs.tracing import ElsewhereShare, StepTimes, TargetShare
from autoresearch_trainer.kernel_files import TARGETS

STEP = "training step"
PHASES = ("forward", "backward", "optimizer", "data")
_BACKWARD = " backward"
# Schedules depend on a run's progress; with a run this long they stand at their start, whatever is measured.
RUN_STEPS = 1_000_000


def backward_of(target: str) -> str:
    """Name of the ranges of a target's backward."""
    return target + _BACKWARD


def target_of(name: str) -> tuple[str, bool] | None:
    """(target, whether it is its backward) of a range's name; None where the range is not one of a target."""
    target = name.removesuffix(_BACKWARD)
    return (target, target != name) if target in TARGETS else None


def target_share(
    phase: str, forward: float, backward: float, own: float, calls: float, within: dict[str, float]
) -> TargetShare:
    """Times of a target in ms per step. own: without what the targets inside it took; within: calls by outer target."""
    optimizer = phase == "optimizer"
    return TargetShare(
        forward_ms=0.0 if optimizer else forward,
        backward_ms=backward,
        optimizer_ms=forward if optimizer else 0.0,
        total_ms=forward + backward,
        self_ms=own,
        calls_per_step=calls,
        within=within,
    )


def step_times(
    plain: Sequence[float],
    step_ms: float,
    phases: dict[str, float],
    targets: dict[str, TargetShare],
    elsewhere: list[ElsewhereShare],
    tokens: int,
) -> StepTimes:
    """plain: seconds of each plain step, of `tokens` tokens; step_ms: what one takes; phases: ms of each part of a
    watched step, which add up to it."""
    watched_ms = math.fsum(phases.values())
    attributed = math.fsum(share.self_ms for share in targets.values())
    return StepTimes(
        steps=len(plain),
        step_ms=step_ms,
        instrumented_step_ms=watched_ms,
        attributed_ms=attributed,
        unattributed_ms=watched_ms - attributed,
        sum_ms=watched_ms,
        sum_deviation=watched_ms / step_ms - 1,
        step_spread=statistics.stdev(plain) / statistics.fmean(plain) if len(plain) > 1 else 0.0,
        phases=phases,
        targets=targets,
        elsewhere=elsewhere,
        tokens_per_step=tokens,
        tokens_per_second=tokens / step_ms * 1e3,
    )
