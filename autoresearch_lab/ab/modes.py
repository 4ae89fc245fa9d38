"""In which mode each arm of an A/B trains: eager, or compiled."""

from __future__ import annotations

from autoresearch_lab.ab.comparison import ARMS, AbComparison
from autoresearch_lab.ab.throughput import summarise
from autoresearch_lab.engine import cannot_compile
from autoresearch_lab.results.ab import ModeSpeeds
from autoresearch_lab.results.base import Mode
from autoresearch_trainer.jobs.training import Arm


def find_modes(comparison: AbComparison) -> None:
    """Settle in which mode each arm trains, where that is not known yet.

    Raises:
        CandidateFailed: it crashed, hung or raised without being compiled.
    """
    choice = comparison.settings.compile
    for arm in ARMS:
        if choice != "auto":
            comparison.modes[arm] = ModeSpeeds(used="compiled" if choice == "on" else "eager", reason="asked for")
        elif arm not in comparison.modes:
            comparison.modes[arm] = _faster_mode(comparison, arm)


def _faster_mode(comparison: AbComparison, arm: Arm) -> ModeSpeeds:
    """One arm against itself in one process, eager and compiled in turns."""
    obstacle = cannot_compile(comparison.context.engine)
    if obstacle is not None:
        return ModeSpeeds(used="eager", reason=f"nothing can be compiled here: {obstacle}")
    args = comparison.side_by_side(
        (arm, arm), ["candidate"], comparison.settings.mode_seconds, comparison.settings.seed
    )
    answer, wall_seconds = comparison.timed(args, f"the {arm} eager and compiled", both=arm == "candidate")
    if answer.failed or answer.environment:
        why = answer.failed or "; ".join(answer.environment)
        return ModeSpeeds(used="eager", reason=f"it does not train compiled: {why}")
    found = summarise(args.seed, answer, wall_seconds, args.block_steps)
    rates = {"eager": found.tokens_per_second["baseline"], "compiled": found.tokens_per_second["candidate"]}
    used: Mode = "compiled" if found.log_ratio > 0 else "eager"
    busy = f", while other processes used {found.foreign_share:.0%} of the cores" if found.disturbed else ""
    return ModeSpeeds(used=used, reason=f"the faster of the two{busy}", **rates)
