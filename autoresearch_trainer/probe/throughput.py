"""Job `throughput`: two selections of kernels train side by side in one process, in alternating blocks of steps.

Both arms share the process, so allocator, threads and floating-point environment are the same by construction; that it
stays so is checked after every block. Each arm has its own model and optimizer, the same first weights and the same
batches. What is returned are raw block times; the ratio is taken by the caller.
"""

import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.base import facts
from autoresearch_trainer.jobs.training import Arm, Pair, ThroughputAnswer, ThroughputArgs
from autoresearch_trainer.probe.load import ForeignLoad
from autoresearch_trainer.probe.state import Snapshot, changes
from autoresearch_trainer.probe.steps import RUN_STEPS
from autoresearch_trainer.probe.training import load_first, open_checked
from autoresearch_trainer.process import QuietCollector

ARMS: tuple[Arm, Arm] = ("baseline", "candidate")


def measure(
    engine: TrainerEngine, snapshot: Snapshot, args: ThroughputArgs, run_dir: Path, report: Report
) -> ThroughputAnswer:
    """Alternate until `seconds` of undisturbed pairs are there, or `limit_seconds` have passed.

    A candidate that raises, or changes the process, ends it: "failed" and "environment" of the answer say how.
    """
    started = time.perf_counter()
    process = engine.prepare_process()
    dataset = open_checked(args.dataset)
    order = random.Random(args.seed)
    load_first(engine, args)
    before = snapshot()
    # Counted, as the trainer itself counts them.
    counters = {arm: engine.CallCounter() for arm in ARMS}
    ops = {"baseline": engine.Ops.load(args.baseline, counters["baseline"])}
    same = args.candidate == args.baseline  # one arm in two modes: then its kernels are loaded once
    ops["candidate"] = ops["baseline"] if same else engine.Ops.load(args.candidate, counters["candidate"])
    changed = [f"on loading: {text}" for text in changes(before, snapshot())]
    config = TrainConfig.for_preset(args.preset, steps=RUN_STEPS, seed=args.seed)
    # Which arm is built first is drawn too: the one that comes later gets other addresses.
    trainers = {
        arm: engine.Trainer(replace(config, compile=arm in args.compiled), ops[arm], dataset, args.device)
        for arm in order.sample(ARMS, 2)
    }
    blocks = Blocks(trainers, args, order, report, snapshot)
    failed = None
    with QuietCollector() as collector:
        try:
            blocks.block("baseline")
            blocks.block("candidate")
            collector.after_step(0)
            setup_seconds = time.perf_counter() - started
            if not changed:
                blocks.run()
        except CandidateFailed as failure:
            failed = str(failure)
            setup_seconds = time.perf_counter() - started
    return ThroughputAnswer(
        pairs=blocks.pairs,
        block_tokens=args.block_steps * config.total_batch_tokens,
        environment=changed + blocks.changed,
        failed=failed,
        calls={arm: counter.totals() for arm, counter in counters.items()},
        process=facts(process),
        setup_seconds=setup_seconds,
        compile_cache=engine.compile_cache(),
    )


class CandidateFailed(Exception):
    """A step of the candidate raised. The baseline's own errors are left as they are."""


class Blocks:
    """Two trainers by turns. snapshot(): the state that no kernel may change."""

    def __init__(
        self,
        trainers: dict[Arm, Any],
        args: ThroughputArgs,
        order: random.Random,
        report: Report,
        snapshot: Snapshot,
    ) -> None:
        self.trainers, self.args, self.order, self.report = trainers, args, order, report
        self.pairs: list[Pair] = []
        self.changed: list[str] = []
        self.snapshot = snapshot
        self.reference = snapshot()
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def run(self) -> None:
        seconds, limit = self.args.seconds, self.args.limit_seconds
        started, quiet_seconds, quiet_pairs = time.perf_counter(), 0.0, 0
        while not self.changed:
            pair = self.pair()
            self.pairs.append(pair)
            if pair.quiet:
                quiet_pairs += 1
                quiet_seconds += pair.baseline + pair.candidate
            self.report({"stage": "throughput", "done": min(quiet_seconds, seconds), "total": seconds})
            least = self.args.least_pairs
            if quiet_seconds >= seconds and quiet_pairs >= least:
                return
            # Out of time: a slow trainer still gets its pairs, a busy machine does not.
            mostly_disturbed = 2 * quiet_pairs < len(self.pairs)
            if time.perf_counter() - started >= limit and (len(self.pairs) >= least or mostly_disturbed):
                return

    def pair(self) -> Pair:
        """One block of each arm, the first drawn at random; with the share of the cores that others used meanwhile."""
        first, second = self.order.sample(ARMS, 2)
        load = ForeignLoad(self.cores)
        times = {first: self.block(first), second: self.block(second)}
        foreign = load.share()
        return Pair(
            baseline=times["baseline"],
            candidate=times["candidate"],
            first=first,
            foreign=foreign,
            quiet=foreign <= self.args.foreign_limit,
        )

    def block(self, arm: Arm) -> float:
        """Seconds of one block of steps. The clock stops before the environment is looked at."""
        trainer = self.trainers[arm]
        started = time.perf_counter()
        try:
            for _ in range(self.args.block_steps):
                trainer.step()
        except Exception as error:
            if arm == "candidate":
                raise CandidateFailed(f"{type(error).__name__}: {error}") from error
            raise
        seconds = time.perf_counter() - started
        changed = changes(self.reference, self.snapshot())
        self.changed += [f"by the {arm}'s steps: {text}" for text in changed if not self.changed]
        return seconds
