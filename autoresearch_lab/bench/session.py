"""The sequence of processes of one bench: measure, look, and go on until the rule decides or the budget is used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch_lab.bench.analysis import DISAGREE, Analysis, objections
from autoresearch_lab.bench.checks import WrongOutput
from autoresearch_lab.bench.gpu import replay_remarks, replayed, waiting, warm_times
from autoresearch_lab.bench.measure import Arm, TimingBed, measure
from autoresearch_lab.bench.rule import AMBIGUOUS, Finding, Rule, decide, find, looks_within
from autoresearch_lab.bench.samples import Process, total_ratios
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.results.bench import ArmTime, BenchResults, LibraryRatio, Ratio, WorkloadTimes, is_busy
from autoresearch_lab.statistics import Interval
from autoresearch_trainer.jobs import Progress

# Share of the budget that one process measures for; with start-up and checks it takes about twice that.
SHARE, LEAST_SECONDS, MOST_SECONDS = 0.04, 0.5, 4.0


@dataclass(frozen=True)
class BenchOutcome:
    """What a bench found. ratio: time of the arm to beat / candidate time with its interval; in_use: time of what the
    trainer uses now, uncompiled / candidate time."""

    verdict: str
    ratio: Interval
    in_use: Interval
    results: BenchResults


class BenchSession:
    """Arms (baseline, control, those beside them, candidate: in this order) on the calls of a bed; `weights`: calls per
    step of each. left_out: {arm: why it is none}."""

    def __init__(
        self,
        bed: TimingBed,
        arms: Sequence[Arm],
        weights: Sequence[float],
        on_progress: Callable[[Progress], None] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.bed, self.arms, self.weights, self.on_progress = bed, list(arms), list(weights), on_progress
        self.left_out = dict(left_out or {})
        self.processes: list[Process] = []
        self.wanted = 0

    @property
    def candidate(self) -> int:
        """Place of the candidate among the arms."""
        return len(self.arms) - 1

    @property
    def _names(self) -> list[str]:
        return [f"{arm.role}:{arm.name}" for arm in self.arms]

    @property
    def libraries(self) -> list[int]:
        """Places of the library's kernels."""
        return [place for place, arm in enumerate(self.arms) if arm.role == "library"]

    def place(self, role: str, compiled: bool = False) -> int | None:
        """Place of the first arm in that role, or None. The compiled baseline is in the library's."""
        found = (place for place, arm in enumerate(self.arms) if (arm.role, arm.compiled) == (role, compiled))
        return next(found, None)

    @property
    def compile_seconds(self) -> list[float]:
        """What the compiled arms' first calls took, by process."""
        compiled = [place for place, arm in enumerate(self.arms) if arm.compiled]
        firsts = [process.answer.first_call_ms for process in self.processes]
        return [sum(sum(first[place]) for place in compiled) / 1e3 for first in firsts] if compiled else []

    def run(self, rule: Rule, budget: float, rng: np.random.Generator) -> BenchOutcome:
        """Measure in processes of `budget` x SHARE seconds; `rule.looks` says after how many the data are looked at.
        Compiling the arms does not count towards the budget. After the first process `on_progress` hears {"expected":
        seconds until the first look}, which is taken whatever the budget is.

        Raises:
            LabError, LabFailure: see `measure`.
        """
        began = time.monotonic()

        def take(wanted: int) -> None:
            self.wanted = wanted
            self._take(process_seconds(budget), int(rng.integers(1 << 31)))
            if len(self.processes) == 1 and self.on_progress is not None:
                left = (rule.looks[0] - 1) * self._used(began)
                self.on_progress({"expected": time.monotonic() - began + left})

        for look in looks_within(rule, budget, take, lambda: self._used(began)):
            alpha = rule.alpha(look)
            analysis = self._analysis(alpha, rule, rng)
            to_beat, finding = self._find(analysis, rng)
            doubts = objections(
                analysis, to_beat, self.candidate, self.bed.workloads, self.foreign_load, finding.interval.low,
                self.arms[to_beat].name,
            )  # fmt: skip
            verdict, reason = decide(finding, rule, doubts)
            if verdict != AMBIGUOUS:
                break
        elapsed = time.monotonic() - began
        results = self._report(analysis, finding, to_beat)
        results.reason = f"against {self.arms[to_beat].name}: {reason}" if to_beat else reason
        results.seconds, results.level, results.looks = round(elapsed, 2), 1 - alpha, look + 1
        results.remarks = [*doubts, *self._remarks(analysis, finding, to_beat), *compiled_remarks(results)]
        results.remarks += replay_remarks(results.replayed, self._names, results.workloads)
        in_use = analysis.against(self.place("standing") or 0, self.candidate).ratio()
        return BenchOutcome(verdict, finding.interval.ratio(), in_use, results)

    def _used(self, began: float) -> float:
        return time.monotonic() - began - sum(self.compile_seconds)

    @property
    def foreign_load(self) -> float | None:
        """Median share of the machine's cores that other processes used meanwhile; None if unknown."""
        shares = [share for process in self.processes for share in process.answer.foreign_load if share is not None]
        return float(np.median(shares)) if shares else None

    @property
    def busy(self) -> bool:
        """Whether other processes used so much of the machine that the reader should know."""
        return is_busy(self.foreign_load)

    def _take(self, seconds: float, seed: int) -> None:
        """One more process. A rival is not what is judged: if the first one fails because of a library's kernel (of
        another version, say, or not made for this device) or of another arm that a bench can do without, it is taken
        without that; and if one of these gave something else than the baseline, as a sum that happens to cancel may, it
        is taken once more with other contents."""
        try:
            self.processes.append(self._measure(self.arms, seconds, seed))
        except (LabError, LabFailure) as failure:
            rivals = isinstance(failure, WrongOutput) and self.arms[failure.arm].beside
            left_out = not self.processes and self._leave_out(seed)
            if not (left_out or rivals):
                raise
            self.processes.append(self._measure(self.arms, seconds, seed if left_out else (seed + 1) % (1 << 31)))

    def _leave_out(self, seed: int) -> bool:
        """Drop the arms beside that fail with nothing but the baseline too; False where there are none."""
        failed = []
        for arm in (arm for arm in self.arms if arm.beside):
            try:
                self._measure([*self.arms[:2], arm], LEAST_SECONDS, seed)
            except (LabError, LabFailure) as failure:
                self.left_out[arm.name] = str(failure)
                failed.append(arm)
        self.arms = [arm for arm in self.arms if arm not in failed]
        return bool(failed)

    def _measure(self, arms: list[Arm], seconds: float, seed: int) -> Process:
        number = len(self.processes)

        def listen(message: Progress) -> None:
            if self.on_progress is not None:
                self.on_progress({**message, "process": number + 1, "processes": self.wanted})

        return measure(
            self.bed,
            arms,
            seconds=seconds,
            seed=seed,
            calls=self._calls(),
            memory=number == 0,
            on_progress=listen,
        )

    def _calls(self) -> list[int] | None:
        """How many calls made a sample so far, per workload; the most, since a process that the system disturbed all
        through its warm-up takes short calls for long ones."""
        counts = [process.answer.calls for process in self.processes]
        return [max(column) for column in zip(*counts, strict=True)] if counts else None

    def _analysis(self, alpha: float, rule: Rule, rng: np.random.Generator) -> Analysis:
        gradients = [workload["gradient"] for workload in self.bed.workloads]
        return Analysis(self.processes, self.weights, gradients, alpha, rule, rng)

    def _find(self, analysis: Analysis, rng: np.random.Generator) -> tuple[int, Finding]:
        """(place of the arm to beat, the finding against it): of the baseline and the compiled one, where there is one,
        that which the candidate is less surely ahead of. A win is one against both, so the error does not grow."""
        direction = analysis.decisive
        control = total_ratios(self.processes, 0, 1, direction, self.weights)
        found = {}
        compiled = self.place("library", compiled=True)
        for place in [0] if compiled is None else [0, compiled]:
            groups = total_ratios(self.processes, place, self.candidate, direction, self.weights)
            found[place] = find(groups, control, analysis.alpha, analysis.rule, rng)
        to_beat = min(found, key=lambda place: found[place].interval.low)
        return to_beat, found[to_beat]

    def _report(self, analysis: Analysis, finding: Finding, to_beat: int) -> BenchResults:
        """What the record says of the samples; reason, remarks and costs are filled in by `run`."""
        ratio, control = finding.interval.ratio(), finding.control.ratio()
        groups = total_ratios(self.processes, to_beat, self.candidate, analysis.decisive, self.weights)
        shift = analysis.disturbance(self.candidate)
        begun, names = self.processes[0].answer, self._names
        libraries = [self._library(analysis, place) for place in self.libraries]
        best = min(libraries, key=lambda library: library.ratio, default=None)
        return BenchResults(
            ratio=ratio.point,
            interval=(ratio.low, ratio.high),
            against=self.arms[to_beat].name,
            direction=analysis.decisive,
            threshold=math.exp(finding.threshold),
            floor=math.exp(finding.floor),
            control=Ratio(ratio=control.point, interval=(control.low, control.high)),
            process_ratios=[float(math.exp(np.median(group))) for group in groups],
            rounds=[process.rounds for process in self.processes],
            minimum_ratio=analysis.minimum_ratio(to_beat, self.candidate),
            directions=analysis.directions(self.candidate),
            workloads=[
                WorkloadTimes(
                    id=workload["id"],
                    calls_per_step=self.weights[place],
                    directions=analysis.workload(place, self.candidate, self.libraries),
                )
                for place, workload in enumerate(self.bed.workloads)
            ],
            libraries=libraries,
            library=best,
            left_out=self.left_out,
            beats_library=None if best is None else best.interval[0] > analysis.rule.margin,
            disturbance=None if shift is None else shift.ratio().plain(),
            first_call_ms=dict(zip(names, begun.first_call_ms, strict=True)),
            peak_bytes=None if begun.peak_bytes is None else dict(zip(names, begun.peak_bytes, strict=True)),
            foreign_load=self.foreign_load,
            disturbed={name: analysis.disturbed(place) for place, name in enumerate(names)},
            load_average=self.processes[-1].answer.load_average,
            process=begun.process,
            timer=begun.timer,
            warm=warm_times(self.processes, names, self.bed.workloads),
            replayed=replayed(self.processes, names, self.bed.workloads),
            configurations=[[one.model_dump() for one in process.answer.configurations] for process in self.processes],
            arms=[
                ArmTime(role=arm.role, name=arm.name, compiled=arm.compiled, ms=ms)
                for arm, ms in zip(self.arms, analysis.milliseconds(), strict=True)
            ],
            in_graph=self._in_graph(analysis),
            graph_break=self._graph_break,
            compile_seconds=[round(seconds, 2) for seconds in self.compile_seconds],
        )

    def _in_graph(self, analysis: Analysis) -> Ratio | None:
        """The compiled baseline against the candidate within a graph."""
        baseline, candidate = self.place("library", compiled=True), self.place("graph", compiled=True)
        if baseline is None or candidate is None:
            return None
        found = analysis.against(baseline, candidate).ratio()
        return Ratio(ratio=found.point, interval=(found.low, found.high))

    @property
    def _graph_break(self) -> str | None:
        place, told = self.place("graph", compiled=True), self.processes[0].answer.graph_breaks
        return told[place] if place is not None and told else None

    def _library(self, analysis: Analysis, place: int) -> LibraryRatio:
        """A library's kernel against the candidate, and the baseline against it."""
        ratio = analysis.against(place, self.candidate).ratio()
        baseline = analysis.against(0, place).ratio()
        return LibraryRatio(
            name=self.arms[place].name,
            ratio=ratio.point,
            interval=(ratio.low, ratio.high),
            baseline_ratio=baseline.point,
            baseline_interval=(baseline.low, baseline.high),
        )

    def _remarks(self, analysis: Analysis, finding: Finding, to_beat: int) -> list[str]:
        found = [f"{name} is not among the arms: {reason}" for name, reason in self.left_out.items()]
        if self.busy:
            found.append(f"other processes used {self.foreign_load:.0%} of the machine meanwhile")
        if finding.control.low > 0 or finding.control.high < 0:
            found.append(f"the baseline differs from itself by x{finding.control.ratio().point:.3f}")
        if abs(math.log(analysis.minimum_ratio(to_beat, self.candidate)) - finding.interval.point) > DISAGREE:
            found.append("the ratio of the shortest times differs from that of the medians by more than 5 %")
        return found + waiting(self.processes, [arm.name for arm in self.arms])


def process_seconds(budget: float) -> float:
    """For how long one process measures."""
    return min(MOST_SECONDS, max(LEAST_SECONDS, budget * SHARE))


def compiled_remarks(found: BenchResults) -> list[str]:
    """What compiling took; and why a candidate that is surely faster than the baseline as it is does not gain within a
    compiled graph: it breaks the graph, or the compiler's own code for the baseline, fused, is as fast."""
    remarks = []
    if found.compile_seconds:
        first, *later = found.compile_seconds
        remarks.append(
            f"compiling took {first:.1f} s in the first process, at most {max(later, default=0.0):.1f} s later"
        )
    if found.graph_break:
        remarks.append(f"graph break in the candidate: {found.graph_break}")
    ratio, alone = found.in_graph, found.directions[found.direction]
    if ratio is not None and ratio.interval[0] <= 1 < alone.interval[0]:
        fares = "loses to" if ratio.interval[1] < 1 else "is not surely ahead of"
        shown = f"x{ratio.ratio:.3f} [{ratio.interval[0]:.3f}, {ratio.interval[1]:.3f}]"
        why = "graph break" if found.graph_break else "fusion"
        remarks.append(f"{fares} the compiled baseline: {why} ({shown}, each within a graph)")
    return remarks
