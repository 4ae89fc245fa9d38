"""Job `check`: short trainings in which sampled calls of kernels are computed by the baseline as well, and compared."""

import time
from pathlib import Path

from autoresearch_data.dataset import Dataset
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.errors import KernelWrong
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.training import CheckAnswer, CheckArgs, CheckedResult, CheckedRun
from autoresearch_trainer.probe.training import load_first, open_checked
from autoresearch_trainer.process import QuietCollector
from autoresearch_trainer.sampling import SharedSampler


def check(engine: TrainerEngine, args: CheckArgs, run_dir: Path, report: Report) -> CheckAnswer:
    """Train once for each of `runs`. A kernel that raises ends its run only; what it did before counts."""
    engine.prepare_process()
    dataset = open_checked(args.dataset)
    load_first(engine, args)
    with QuietCollector() as collector:
        return CheckAnswer(runs=[_checked(engine, args, run, dataset, report, collector) for run in args.runs])


def _checked(
    engine: TrainerEngine, args: CheckArgs, run: CheckedRun, dataset: Dataset, report: Report, collector: QuietCollector
) -> CheckedResult:
    started = time.perf_counter()
    # Before the kernels are loaded, so that what they do then is seen.
    checks = engine.checks(args.selection, SharedSampler(run.share), args.device, args.targets)
    failed = None
    try:
        ops = engine.Ops.load(args.selection, checks.wrap)
        config = TrainConfig.for_preset(args.preset, steps=run.steps, seed=run.seed, compile=run.compile)
        trainer = engine.Trainer(config, ops, dataset, args.device)
        checks.begin(trainer)
        for step in range(run.steps):
            with checks.step():
                trainer.step()
            collector.after_step(step)
            stage = f"checking in place, {'compiled' if run.compile else 'eager'}"
            report({"stage": stage, "done": step + 1, "total": run.steps})
        checks.end()
    except KernelWrong:
        pass  # the record says what
    except Exception as error:
        failed = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    seconds = time.perf_counter() - started
    return CheckedResult(compile=run.compile, checked=checks.record(), failed=failed, total_seconds=seconds)
