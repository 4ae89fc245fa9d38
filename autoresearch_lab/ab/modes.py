"""In which mode each arm of an A/B trains: eager, or compiled."""

from __future__ import annotations

import time
from contextlib import suppress

from autoresearch_lab import jobs
from autoresearch_lab.ab.comparison import ARMS, CLOCKS, RACE_EXTRA_SECONDS, AbComparison
from autoresearch_lab.ab.throughput import summarise
from autoresearch_lab.engine import cannot_compile
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.results.ab import ModeSpeeds
from autoresearch_lab.results.base import Mode
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_trainer.jobs.training import THROUGHPUT, Arm


def find_modes(comparison: AbComparison) -> None:
    """Settle in which mode each arm trains, where that is not known yet.

    Raises:
        CandidateFailed: it crashed, hung or raised without being compiled.
    """
    choice = comparison.settings.compile
    if choice == "auto" and not comparison.modes and cannot_compile(comparison.context.engine) is None:
        _compile_ahead(comparison)
    for arm in ARMS:
        if choice != "auto":
            comparison.modes[arm] = ModeSpeeds(used="compiled" if choice == "on" else "eager", reason="asked for")
        elif arm not in comparison.modes:
            comparison.modes[arm] = _faster_mode(comparison, arm)


def _compile_ahead(comparison: AbComparison) -> None:
    """Have two processes beside each other leave in the compile cache what later ones find there: one with the
    baseline's kernels, one with both arms'. A process compiles with one core, and no time is taken. One that fails is
    asked again where its result is needed.

    Only on a CPU: a GPU's memory need not hold four models.
    """
    engine, settings = comparison.context.engine, comparison.settings
    if engine.job_device != "cpu":
        return
    if comparison.on_progress is not None:
        comparison.on_progress({"about": "A/B", "stage": "compiling both arms"})
    started = time.monotonic()
    answers = {}
    for arm in ARMS:
        compiled: list[Arm] = ["candidate"] if arm == "baseline" else ["baseline", "candidate"]
        args = comparison.side_by_side(("baseline", arm), compiled, 0.0, settings.seed)
        brief = args.model_copy(update={"block_steps": 1, "least_pairs": 0})
        folder, limits = comparison.folder / f"compile-{arm}", Limits(seconds=RACE_EXTRA_SECONDS)
        answers[arm] = jobs.in_background(jobs.call, engine, THROUGHPUT, brief, run_dir=folder, limits=limits)
    for arm, answer in answers.items():
        with suppress(LabError, LabFailure):
            comparison.note_compiled(f"compiling the {arm}", answer().compile_cache)
    comparison.seconds[CLOCKS[THROUGHPUT.name]] += time.monotonic() - started


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
