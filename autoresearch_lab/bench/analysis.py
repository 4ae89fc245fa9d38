"""What a bench reports beside its verdict: every direction, every workload, the library's arm, and side effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.bench.samples import BOTH, DIRECTIONS, FORWARD, Process, total_ratios, workload_ratios
from autoresearch_lab.results.bench import DirectionRatio, Disturbed, Prediction, Ratio, WorkloadDirection
from autoresearch_lab.results.profile import ProfileResults
from autoresearch_lab.statistics import Interval, grouped_interval, t_interval
from autoresearch_trainer.jobs.timing import TimedCall

# The many intervals that are shown and decide nothing need fewer resamples than the one that does.
RESAMPLES = 2_000
# Median and minimum tell two stories from here on (log-ratio).
DISAGREE = 0.05


class Analysis:
    """Questions to the samples of a bench. Arms by their place: 0 = baseline, 1 = control, then libraries, candidate.

    weights: calls per optimizer step of each workload. Ratios are time of one arm / time of another; intervals have
    the one-sided level `alpha` on either side.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        weights: Sequence[float],
        gradients: Sequence[bool],
        alpha: float,
        rule: Rule,
        rng: np.random.Generator,
    ) -> None:
        self.processes, self.weights, self.gradients = processes, list(weights), list(gradients)
        self.alpha, self.rule, self.rng = alpha, rule, rng

    @property
    def decisive(self) -> str:
        """The direction that decides: forward and backward together where the trainer needs gradients."""
        return BOTH if any(self.gradients) else FORWARD

    def interval(self, groups: Sequence[np.ndarray]) -> Interval:
        return grouped_interval(groups, self.alpha, self.rng, least_sd=self.rule.least_sd, resamples=RESAMPLES)

    def against(self, top: int, bottom: int) -> Interval:
        """Log-ratio of two arms over all workloads in the decisive direction."""
        return self.interval(total_ratios(self.processes, top, bottom, self.decisive, self.weights))

    def directions(self, candidate: int) -> dict[str, DirectionRatio]:
        """Per direction: ratio baseline / candidate with its interval, and the times of both in ms per step."""
        found = {}
        for direction in DIRECTIONS if any(self.gradients) else (FORWARD,):
            totals = np.concatenate([process.totals(direction, self.weights) for process in self.processes])
            ratio = self.interval(total_ratios(self.processes, 0, candidate, direction, self.weights)).ratio()
            found[direction] = DirectionRatio(
                ratio=ratio.point,
                interval=(ratio.low, ratio.high),
                baseline_ms=float(np.median(totals[:, 0]) * 1e3),
                candidate_ms=float(np.median(totals[:, candidate]) * 1e3),
            )
        return found

    def workload(self, place: int, candidate: int, libraries: Sequence[int]) -> dict[str, WorkloadDirection]:
        """One workload: ratios baseline / candidate and library's kernel / candidate per direction, with their
        intervals, and the arms' times in microseconds per call."""
        found = {}
        for direction in DIRECTIONS if self.gradients[place] else (FORWARD,):
            seconds = np.concatenate([process.seconds(direction)[:, :, place] for process in self.processes])
            middle = np.median(seconds, axis=0) * 1e6
            ratio = self._ratio(place, direction, 0, candidate)
            found[direction] = WorkloadDirection(
                ratio=ratio.ratio,
                interval=ratio.interval,
                baseline_us=float(middle[0]),
                candidate_us=float(middle[candidate]),
                library_us=[float(middle[arm]) for arm in libraries],
                library_ratios=[self._ratio(place, direction, arm, candidate) for arm in libraries],
            )
        return found

    def between(self, place: int, direction: str, top: int, bottom: int) -> Interval:
        """Log-ratio of two arms at one workload."""
        return self.interval(workload_ratios(self.processes, top, bottom, direction, place))

    def _ratio(self, place: int, direction: str, top: int, bottom: int) -> Ratio:
        ratio = self.between(place, direction, top, bottom).ratio()
        return Ratio(ratio=ratio.point, interval=(ratio.low, ratio.high))

    def regression(self, place: int, to_beat: int, candidate: int) -> Interval:
        """Log-ratio of two arms at one workload in its decisive direction."""
        return self.between(place, BOTH if self.gradients[place] else FORWARD, to_beat, candidate)

    def milliseconds(self) -> list[float]:
        """Median time per optimizer step of every arm in the decisive direction, in ms."""
        totals = np.concatenate([process.totals(self.decisive, self.weights) for process in self.processes])
        return [float(value) for value in np.median(totals, axis=0) * 1e3]

    def minimum_ratio(self, to_beat: int, candidate: int) -> float:
        """Ratio of the shortest times, which noise that only ever adds cannot move; shown, never decided on."""
        shortest = np.min(
            [process.times.sum(axis=-1).min(axis=(0, 1)) for process in self.processes], axis=0
        )  # (arm, workload)
        totals = shortest @ np.asarray(self.weights)
        return float(totals[to_beat] / totals[candidate])

    def disturbance(self, candidate: int) -> Interval | None:
        """How much longer (log-ratio) the baseline takes right after the candidate than after any other kernel; None
        where that cannot be told. Threads that still spin, or caches and memory left in disorder, show here."""
        per_process = []
        for process in self.processes:
            logs: dict[tuple[int, int], list[tuple[bool, float]]] = {}
            for arm, before, place, seconds in process.visits():
                if arm in (0, 1) and before != arm:
                    logs.setdefault((arm, place), []).append((before == candidate, math.log(seconds)))
            shifts = []
            for values in logs.values():
                after, otherwise = [v for flag, v in values if flag], [v for flag, v in values if not flag]
                if after and otherwise:
                    shifts.append(float(np.median(after) - np.median(otherwise)))
            if shifts:
                per_process.append(float(np.mean(shifts)))
        return t_interval(per_process, self.alpha, self.rule.least_sd) if len(per_process) > 1 else None

    def disturbed(self, *arms: int) -> Disturbed:
        """Shares over the given arms."""
        rows = [process.answer.disturbed[arm] for process in self.processes for arm in arms]
        return Disturbed(
            aside=sum(row.aside for row in rows) / max(1, sum(row.calls for row in rows)),
            unclean=sum(row.unclean for row in rows) / max(1, sum(row.samples for row in rows)),
        )


def objections(
    analysis: Analysis,
    to_beat: int,
    candidate: int,
    workloads: Sequence[TimedCall],
    load: float | None,
    low: float,
    against: str,
) -> list[str]:
    """Reasons why this candidate cannot be called FASTER even if it is so on the whole. to_beat: place of the arm that
    decides, and against its name; load: share of the machine that other processes used; low: lower end of the deciding
    log-ratio."""
    rule, found = analysis.rule, []
    for place, workload in enumerate(workloads):
        ratio = analysis.regression(place, to_beat, candidate)
        if ratio.high < -math.log(rule.regression):
            found.append(f"workload {workload['id']} is slower than {against}: x{ratio.ratio().point:.3f}")
    both = analysis.disturbed(0, candidate)
    crowded = load is not None and load > rule.crowded and both.unclean > rule.unclean
    if crowded and low <= math.log(rule.clear):
        found.append(f"other processes used {load:.0%} of the machine, which favours some kernels: run it again alone")
    often, usual = interrupted(analysis.disturbed(candidate)), interrupted(analysis.disturbed(0))
    if often > 2 * usual + rule.interrupted:
        found.append(f"{often:.0%} of its calls were interrupted ({usual:.0%} of the baseline's): too many threads?")
    shift = analysis.disturbance(candidate)
    if shift is not None and shift.low > math.log(rule.disturbance) and low <= rule.outweighed * shift.high:
        found.append(f"the baseline takes x{shift.ratio().point:.3f} as long right after it: it leaves work behind")
    return found


def interrupted(disturbed: Disturbed) -> float:
    """Share of an arm's work that was interrupted.

    A short call is set aside and repeated, a long one is kept as a sample that is not clean: the same event, so the
    larger of the two shares counts for every arm.
    """
    return max(disturbed.aside, disturbed.unclean)


def prediction(profile: ProfileResults | None, target: str, ratio: Interval) -> Prediction | None:
    """What the trainer should gain by Amdahl's law on the profile's numbers: ms saved per step and the speed-up of the
    step, for the ratio and for both ends of its interval; never more than what lies above the floor. None where no
    profile holds this target. ratio: time of what the profile ran / time of the candidate.
    """
    row = next((row for row in profile.targets if row.target == target), None) if profile else None
    if profile is None or row is None:
        return None
    step_ms, total_ms = profile.step_ms, row.total_ms
    most = None if row.impossible else row.saveable_ms  # a floor that was undercut limits nothing

    def saved(value: float) -> float:
        return min(total_ms * (1.0 - 1.0 / value), total_ms if most is None else most)

    def speedup(saved_ms: float) -> float:
        return 1.0 / max(1e-9, 1.0 - saved_ms / step_ms)

    low, high = saved(ratio.low), saved(ratio.high)
    return Prediction(
        step_ms=step_ms,
        target_ms=total_ms,
        share=total_ms / step_ms,
        saveable_ms=most,
        saved_ms=saved(ratio.point),
        saved_ms_interval=(low, high),
        step_speedup=speedup(saved(ratio.point)),
        step_speedup_interval=(speedup(low), speedup(high)),
    )
