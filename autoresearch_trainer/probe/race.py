"""Job `race`: two selections of kernels train side by side in one process, in alternating blocks of steps.

Both arms share the process, so allocator, threads and floating-point environment are the same by construction; that it
stays so is checked after every block. Each arm has its own model and optimizer, the same first weights and the same
batches. What is returned are raw block times; the ratio is taken by the caller.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import psutil

from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.probe import Report
from autoresearch_trainer.probe.state import Snapshot, changes
from autoresearch_trainer.probe.training import open_checked
from autoresearch_trainer.process import QuietCollector

ARMS = ("baseline", "candidate")
ENDLESS_STEPS = 1_000_000  # the schedules stay at their start: every block does the same work


def race(
    engine: TrainerEngine, snapshot: Snapshot, args: dict[str, Any], run_dir: Path, report: Report
) -> dict[str, Any]:
    """Race until `seconds` of undisturbed pairs are there, or `limit_seconds` have passed.

    args: "device", "baseline" and "candidate" (selections), "preset", "dataset", "seed" (of the weights and of the
        order of the arms), "seconds", "limit_seconds", "block_steps", "least_pairs", "foreign_limit": share of the
        cores that other processes may use during a pair, "compile": whether both are compiled (default no).
    Returns {"pairs": [{"baseline": s, "candidate": s, "first": arm, "foreign": share, "quiet": bool}, ...],
        "block_tokens", "environment": what a kernel changed, in words, "calls" {arm: {target: count}}, "process":
        settings, "setup_seconds"}. A candidate that raises ends the race: "failed" says how; it is null otherwise.
    """
    started = time.perf_counter()
    process = engine.prepare_process()
    dataset = open_checked(args["dataset"])
    order = random.Random(args["seed"])
    before = snapshot()
    # Counted, as the trainer itself counts them.
    counters = {arm: engine.CallCounter() for arm in ARMS}
    ops = {arm: engine.Ops.load(args[arm], counters[arm]) for arm in ARMS}
    changed = [f"on loading: {text}" for text in changes(before, snapshot())]
    compiled = bool(args.get("compile"))
    config = TrainConfig.for_preset(args["preset"], steps=ENDLESS_STEPS, seed=args["seed"], compile=compiled)
    # Which arm is built first is drawn too: the one that comes later gets other addresses.
    trainers = {
        arm: engine.Trainer(config, ops[arm], dataset, args.get("device", "cpu")) for arm in order.sample(ARMS, 2)
    }
    race = Race(trainers, args, order, report, snapshot)
    failed = None
    with QuietCollector() as collector:
        try:
            race.block("baseline")
            race.block("candidate")
            collector.after_step(0)
            setup_seconds = time.perf_counter() - started
            if not changed:
                race.run()
        except CandidateFailed as failure:
            failed = str(failure)
            setup_seconds = time.perf_counter() - started
    return {
        "pairs": race.pairs,
        "block_tokens": args["block_steps"] * config.total_batch_tokens,
        "environment": changed + race.changed,
        "failed": failed,
        "calls": {arm: counter.totals() for arm, counter in counters.items()},
        "process": process,
        "setup_seconds": setup_seconds,
    }


class CandidateFailed(Exception):
    """A step of the candidate raised. The baseline's own errors are left as they are."""


class Race:
    """Two trainers by turns. args as the job `race` takes them; snapshot(): the state that no kernel may change."""

    def __init__(
        self,
        trainers: dict[str, Any],
        args: dict[str, Any],
        order: random.Random,
        report: Report,
        snapshot: Snapshot,
    ) -> None:
        self.trainers, self.args, self.order, self.report = trainers, args, order, report
        self.pairs: list[dict[str, Any]] = []
        self.changed: list[str] = []
        self.snapshot = snapshot
        self.reference = snapshot()
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def run(self) -> None:
        seconds, limit = self.args["seconds"], self.args["limit_seconds"]
        started, quiet_seconds, quiet_pairs = time.perf_counter(), 0.0, 0
        while not self.changed:
            pair = self.pair()
            self.pairs.append(pair)
            if pair["quiet"]:
                quiet_pairs += 1
                quiet_seconds += pair["baseline"] + pair["candidate"]
            self.report({"stage": "race", "done": min(quiet_seconds, seconds), "total": seconds})
            least = self.args["least_pairs"]
            if quiet_seconds >= seconds and quiet_pairs >= least:
                return
            # Out of time: a slow trainer still gets its pairs, a busy machine does not.
            mostly_disturbed = 2 * quiet_pairs < len(self.pairs)
            if time.perf_counter() - started >= limit and (len(self.pairs) >= least or mostly_disturbed):
                return

    def pair(self) -> dict[str, Any]:
        """One block of each arm, the first drawn at random; with the share of the cores that others used meanwhile."""
        first, second = self.order.sample(ARMS, 2)
        wall, busy, own = time.perf_counter(), self.busy_seconds(), time.process_time()
        times = {first: self.block(first), second: self.block(second)}
        own, wall = time.process_time() - own, time.perf_counter() - wall
        busy, count = self.busy_seconds() - busy, len(self.cores or psutil.cpu_times(percpu=True))
        foreign = max(0.0, (busy - own) / (wall * count))
        return {**times, "first": first, "foreign": foreign, "quiet": foreign <= self.args["foreign_limit"]}

    def block(self, arm: str) -> float:
        """Seconds of one block of steps. The clock stops before the environment is looked at."""
        trainer = self.trainers[arm]
        started = time.perf_counter()
        try:
            for _ in range(self.args["block_steps"]):
                trainer.step()
        except Exception as error:
            if arm == "candidate":
                raise CandidateFailed(f"{type(error).__name__}: {error}") from error
            raise
        seconds = time.perf_counter() - started
        changed = changes(self.reference, self.snapshot())
        self.changed += [f"by the {arm}'s steps: {text}" for text in changed if not self.changed]
        return seconds

    def busy_seconds(self) -> float:
        """CPU seconds that anyone used on the cores of this process since the system started, stolen time included."""
        times = psutil.cpu_times(percpu=True)
        chosen = [times[core] for core in self.cores if core < len(times)] if self.cores else times
        idle = ("idle", "iowait", "guest", "guest_nice")  # guest time is part of user time already
        return sum(value for core in chosen for name, value in core._asdict().items() if name not in idle)
