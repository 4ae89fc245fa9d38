"""Extra work of known size: how many turns of the loop make a call of a target take x % longer, and whether they do.

Three steps, each in processes of its own: the calls are timed; a trial amount of work is, which gives the cost of a
turn there; then, with the turns that follow, what they really add. The last is what a table may call the true effect.
It rests on the raw times of the job `time` and on nothing of the bench's rule or stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoresearch_common.workload import arrays
from autoresearch_lab.bench.inputs import job_workloads, weights, write_inputs
from autoresearch_lab.bench.measure import Arm, TimingBed, measure
from autoresearch_lab.bench.samples import BOTH, FORWARD, Process, total_ratios
from autoresearch_lab.calibrate.plants import plant, slowed_source, source_of
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.note import WorkResults
from autoresearch_lab.statistics import Interval, t_interval
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report

# Share of a call that the trial amount of work is meant to take, and how far off the cost of a turn may be.
TRIAL, LEAST_SLOPE, MOST_SLOPE = 0.2, 0.3, 3.0
# Fresh processes of each of the last two steps, and for how long each measures (seconds).
PROCESSES, SECONDS = 4, 5.0
ALPHA = 0.025


@dataclass(frozen=True)
class ExtraWork:
    """The extra work of one target. step_seconds: time of all calls of an optimizer step. per_share: {elements of the
    first argument: turns that add the time of a whole call}; fixed: share that the wrapper alone adds. measured:
    {effect: interval of what the turns for it really add, as a ratio of times}."""

    target: str
    step_seconds: float
    per_share: dict[int, float]
    fixed: float
    measured: dict[float, list[float]]

    def turns(self, share: float) -> dict[int, int]:
        """Turns of the loop, by size of the first argument, that make the calls take `share` longer."""
        rest = max(0.0, share - self.fixed)
        return {size: round(rest * turns) for size, turns in self.per_share.items()}

    def recorded(self) -> WorkResults:
        """As a record's results carry it."""
        return WorkResults(**vars(self))

    @classmethod
    def of(cls, recorded: WorkResults) -> ExtraWork:
        return cls(**dict(recorded))


def find_work(
    target: Target,
    baseline: Kernel,
    workload_set: WorkloadSet,
    engine: Engine,
    effects: Sequence[float],
    folder: Path,
    *,
    seed: int,
    seconds: float = SECONDS,
    processes: int = PROCESSES,
    on_progress: Report | None = None,
) -> ExtraWork:
    """Fit the extra work of a target and measure it for every effect (shares of the time of the calls).

    Raises:
        LabFailure: the measurement failed, or the machine is too busy for the cost of the work to be found.
    """
    bed = _Bed(target, baseline, workload_set, engine, folder, seed, on_progress)
    plain = bed.run([baseline], seconds)
    taken = _by_size(plain, workload_set, bed.direction)
    guess = {size: amount / turn_seconds() for size, amount in taken.items()}
    source = source_of(baseline)

    def slowed(share: float, per_share: Mapping[int, float]) -> Kernel:
        turns = {size: round(share * count) for size, count in per_share.items()}
        text = slowed_source(source, target.name, turns, f"work {share:g}")
        return plant(folder / "kernels", baseline, f"work_{share:g}", text)

    arms = [baseline, slowed(0.0, guess), slowed(TRIAL, guess)]
    fits = [bed.run(arms, seconds) for _ in range(processes)]
    fixed, added = (math.exp(np.mean([bed.middle(fit, arm) for fit in fits])) - 1.0 for arm in (1, 2))
    slope = (added - fixed) / TRIAL
    if not LEAST_SLOPE < slope < MOST_SLOPE:
        raise LabFailure(
            f"calibrate: work planted into {target.name} for {TRIAL:.0%} adds {added - fixed:.0%}: too busy a machine?"
        )
    work = ExtraWork(
        target.name,
        sum(weight * bed.seconds(plain, place) for place, weight in enumerate(bed.weights)),
        {size: turns / slope for size, turns in guess.items()},
        max(0.0, fixed),
        {},
    )
    if not effects:
        return work
    arms = [baseline, *(slowed(max(0.0, effect - work.fixed), work.per_share) for effect in effects)]
    found = [bed.run(arms, seconds) for _ in range(processes)]
    measured = {}
    for place, effect in enumerate(effects, start=1):
        shifts = [bed.middle(process, place) for process in found]
        bounds = (t_interval(shifts, ALPHA) if len(shifts) > 1 else Interval(shifts[0], shifts[0], shifts[0])).ratio()
        measured[effect] = [bounds.low, bounds.point, bounds.high]
    return ExtraWork(work.target, work.step_seconds, work.per_share, work.fixed, measured)


def turn_seconds(turns: int = 200_000, repeats: int = 7) -> float:
    """What a turn of the counting loop takes in this process: the least of some repeats."""

    def count(limit: int) -> None:
        for _ in range(limit):
            pass

    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        count(turns)
        times.append(time.perf_counter() - began)
    return min(times) / turns


class _Bed:
    """Runs the job `time` on a target's captured calls with any arms; the first is the reference."""

    def __init__(
        self,
        target: Target,
        baseline: Kernel,
        workload_set: WorkloadSet,
        engine: Engine,
        folder: Path,
        seed: int,
        on_progress: Report | None,
    ) -> None:
        self.on_progress, self.rng = on_progress, np.random.default_rng(seed)
        workloads, inputs = job_workloads(target, workload_set, self.rng), folder / "inputs.safetensors"
        self.bed = TimingBed(engine, target, workloads, inputs, folder / "process")
        self.weights = weights(workload_set)
        self.direction = BOTH if any(workload["gradient"] for workload in workloads) else FORWARD
        folder.mkdir(parents=True, exist_ok=True)
        write_inputs(inputs, target, workload_set, self.rng)

    def run(self, kernels: Sequence[Kernel], seconds: float) -> Process:
        if self.on_progress is not None:
            self.on_progress({"stage": f"extra work for {self.bed.target.name}"})
        arms = [Arm("baseline" if place == 0 else "candidate", kernel) for place, kernel in enumerate(kernels)]
        return measure(self.bed, arms, seconds=seconds, seed=int(self.rng.integers(1 << 31)))

    def middle(self, process: Process, arm: int) -> float:
        """Median log-ratio of the arm's time to the reference's over all calls of a step: > 0 = the arm is slower."""
        return float(np.median(total_ratios([process], arm, 0, self.direction, self.weights)[0]))

    def seconds(self, process: Process, place: int) -> float:
        """Median time of the reference's call of one workload."""
        return float(np.median(process.seconds(self.direction)[:, 0, place]))


def _by_size(process: Process, workload_set: WorkloadSet, direction: str) -> dict[int, float]:
    """Seconds of a call by the number of elements of its first argument; the mean over calls where several share it,
    each as often as it is called."""
    counts = weights(workload_set)
    totals: dict[int, list[float]] = {}
    for place, workload in enumerate(workload_set.workloads):
        size = math.prod(next(iter(arrays(workload)))["shape"])
        taken = float(np.median(process.seconds(direction)[:, 0, place]))
        weight, amount = totals.get(size, [0.0, 0.0])
        totals[size] = [weight + counts[place], amount + counts[place] * taken]
    return {size: amount / weight for size, (weight, amount) in totals.items() if weight > 0}
