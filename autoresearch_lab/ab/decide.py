"""The course of one A/B: race, train, evaluate, judge; at the first look, and at the second if that does not decide.

What can end it early comes first: no training is spent on a kernel that is not faster in the trainer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from autoresearch_lab.ab import rule
from autoresearch_lab.ab.comparison import ARMS, AbComparison, CandidateFailed, Run
from autoresearch_lab.ab.modes import find_modes
from autoresearch_lab.ab.promise import Promise
from autoresearch_lab.ab.rule import Gate, GateState
from autoresearch_lab.ab.throughput import Throughput
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.ab import GateNumbers, SeedLoss


@dataclass
class AbOutcome:
    """What an A/B found. `gates` holds those that were reached, in the order of judging."""

    verdict: str
    reason: str
    look: int
    gates: dict[str, Gate]
    races: list[Throughput] = field(default_factory=list)
    losses: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    bpb: dict[str, dict[int, float | None]] = field(default_factory=dict)
    equal_time_steps: int | None = None
    disturbed: bool = False
    # The pairs of seeds behind "neutral" and "benefit".
    pairs: dict[str, list[SeedLoss]] = field(default_factory=dict)

    @property
    def speed(self) -> GateNumbers | None:
        return self.gates["speed"].numbers if "speed" in self.gates else None

    @property
    def tokens_per_second(self) -> dict[str, float | None]:
        """Medians over processes, by arm."""
        return {arm: _middle([race.tokens_per_second[arm] for race in self.races]) for arm in ARMS}

    @property
    def val_bpb(self) -> dict[str, float | None]:
        """Means over seeds, by arm."""
        return {kind: _mean(list(self.bpb.get(kind, {}).values())) for kind in (*ARMS, "candidate_equal_time")}

    @property
    def mean_losses(self) -> dict[str, list[float]]:
        """Training loss step by step, mean over seeds."""
        return {kind: _mean_curve(list(curves.values())) for kind, curves in self.losses.items()}


def decide(comparison: AbComparison, promise: Callable[[Sequence[bool]], Promise]) -> AbOutcome:
    """Run the A/B to its verdict. promise: what the benchmarks say should be saved, by which of the arms are compiled.

    Raises:
        LabFailure: the lab or the baseline failed; a candidate that fails is rejected instead.
    """
    course = _Course(comparison, promise)
    try:
        find_modes(comparison)
        for look, count in enumerate(comparison.settings.looks, start=1):
            course.look = look
            complete = course.look_at(count)
            verdict, reason = rule.verdict(list(course.gates.values()), complete)
            if verdict != "UNDECIDED" or course.disturbed:
                break
    except CandidateFailed as failure:
        verdict, reason = "REJECT", f"the candidate failed in the trainer: {failure}"
    return AbOutcome(
        verdict,
        reason,
        course.look,
        course.gates,
        course.races,
        course.losses,
        course.bpb,
        course.equal_time_steps,
        course.disturbed,
        course.pairs,
    )


class _Course:
    """The state of one A/B while it runs."""

    def __init__(self, comparison: AbComparison, promise: Callable[[Sequence[bool]], Promise]) -> None:
        self.comparison, self.promise = comparison, promise
        self.look = 1
        self.gates: dict[str, Gate] = {}
        self.races: list[Throughput] = []
        self.losses: dict[str, dict[int, list[float]]] = {}
        self.bpb: dict[str, dict[int, float | None]] = {}
        # Of the candidate, in the time that the baseline needs; known once the speed is.
        self.equal_time_steps: int | None = None
        self.disturbed = False
        self.pairs: dict[str, list[SeedLoss]] = {}

    def look_at(self, count: int) -> bool:
        """Bring all gates up to `count` processes and seeds. False where one of them made the rest pointless."""
        settings = self.comparison.settings
        self.gates = {}
        if not self._race(count):
            return False
        ratio = self.gates["speed"].numbers
        promised = self.promise([self.comparison.compiled(arm) for arm in ARMS])
        predicted, basis = promised.saved(statistics.median(race.step_ms for race in self.races))
        if not self._pass(rule.gain_gate(ratio.ratio or 0.0, predicted, settings, basis)):
            return False
        seeds = settings.seeds[:count]
        # A clear winner gets so many more steps that a few seeds show it; the choice rests on speed alone.
        clear = self.look == 1 and (ratio.lower or 0.0) >= settings.clear_speed
        paired = seeds[: settings.clear_seeds] if clear else seeds
        self.equal_time_steps = rule.equal_time_steps(settings.steps, ratio.lower or 0.0)
        self.comparison.check_in_place()
        if not self._pass(rule.in_place_gate(self.comparison.in_place, self.comparison.modes["candidate"].used)):
            return False
        if not self._train(seeds, paired):
            return False
        if not self._pass(self._named(self._divergence(seeds), seeds)):
            return False
        self._evaluate(seeds, paired)
        return True

    def _pass(self, gate: Gate) -> bool:
        self.gates[gate.name] = gate
        return gate.state is not GateState.FAIL

    def _environment(self, changes: Sequence[str]) -> bool:
        """Gate 0: the candidate leaves the process as it was."""
        note = "; ".join(changes) or "floating-point environment, threads and flags unchanged"
        state = GateState.FAIL if changes else GateState.PASS
        return self._pass(Gate("environment", state, note, GateNumbers(changes=list(changes))))

    def _race(self, count: int) -> bool:
        """Race up to `count` processes in all; stop as soon as the candidate is plainly not faster."""
        settings = self.comparison.settings
        for index in range(len(self.races), count):
            race, changes = self.comparison.race(index, count)
            if not self._environment(changes) or race is None:
                return False
            self.races.append(race)
            if race.disturbed:
                return self._busy(race)
            if len(self.races) < 2:
                continue
            gate = rule.speed_gate([race.log_ratio for race in self.races], settings)
            if gate.state is GateState.FAIL or len(self.races) == count:
                return self._pass(gate) and gate.state is GateState.PASS
        raise AssertionError("a look has two or more processes")

    def _busy(self, race: Throughput) -> bool:
        """Under load the ratio itself is another one (threads wait for each other), so nothing is concluded from it."""
        self.disturbed = True
        note = (
            f"other processes used more than {self.comparison.settings.foreign_limit:.0%} of the cores during most of "
            f"a race ({race.foreign_share:.0%} in its calmest part): run it again on a quieter machine"
        )
        self._pass(Gate("speed", GateState.OPEN, note))
        return False

    def _train(self, seeds: list[int], paired: list[int]) -> bool:
        """Train the candidate, and the baseline with its one-ulp control where their runs are not known yet."""
        comparison, steps = self.comparison, self.comparison.settings.steps
        fixed = [Run(seed, steps) for seed in seeds]
        longer = [Run(seed, self._longer) for seed in paired]
        found = {
            "candidate": comparison.train("candidate", [*fixed, *longer]),
            "baseline": comparison.train("baseline", [*fixed, *(self._control(seed) for seed in seeds)]),
        }
        ours, theirs = found["candidate"], found["baseline"]
        broken = next((result.failed for result in theirs.values() if result.failed), None)
        if broken:
            raise LabFailure(f"the baseline itself does not train with preset {comparison.preset}: {broken}")
        self.losses = {
            "baseline": {run.seed: theirs[run].losses for run in fixed},
            "control": {seed: theirs[self._control(seed)].losses for seed in seeds},
            "candidate": {run.seed: ours[run].losses for run in fixed},
            "candidate_equal_time": {run.seed: ours[run].losses for run in longer},
        }
        changes = sorted({text for result in ours.values() for text in result.environment})
        if not self._environment([f"in training: {text}" for text in changes]):
            return False
        failed = next((result.failed for result in ours.values() if result.failed), None)
        return failed is None or self._pass(Gate("neutral", GateState.FAIL, f"training failed: {failed}"))

    @property
    def _longer(self) -> int:
        assert self.equal_time_steps is not None  # the gate of speed came first
        return self.equal_time_steps

    def _control(self, seed: int) -> Run:
        settings = self.comparison.settings
        return Run(seed, settings.steps, stop=min(settings.divergence_steps, settings.steps), one_ulp=True)

    def _divergence(self, seeds: list[int]) -> Gate:
        control = self._away("control", seeds)
        ours = [course[: len(control[0])] for course in self._away("candidate", seeds)]
        gate = rule.divergence_gate(ours, control, self.comparison.settings)
        if gate.state is GateState.PASS:
            return gate
        # Further than one unit goes. Would an exact kernel be, too?
        runs = {seed: replace(self._control(seed), one_ulp=False, widened=self.comparison.targets) for seed in seeds}
        found = self.comparison.train("baseline", runs.values())
        if any(result.failed for result in found.values()):
            return gate
        self.losses["rounding"] = {seed: found[run].losses for seed, run in runs.items()}
        return rule.divergence_gate(ours, control, self.comparison.settings, self._away("rounding", seeds))

    def _named(self, gate: Gate, seeds: list[int]) -> Gate:
        """A failed gate of divergence with the place where the losses are furthest apart, and what to do."""
        if gate.state is not GateState.FAIL:
            return gate
        ours, theirs = self.losses["candidate"], self.losses["baseline"]
        worst = max(gate.numbers.stretches, key=lambda stretch: stretch.ratio, default=None)
        first, last = worst.steps if worst else (1, self.comparison.settings.divergence_steps)
        places = [(seed, step) for seed in seeds for step in range(first, min(last, len(ours[seed])) + 1)]

        def apart(place: tuple[int, int]) -> float:
            seed, step = place
            difference = abs(ours[seed][step - 1] - theirs[seed][step - 1])
            return difference if math.isfinite(difference) else math.inf

        seed, step = max(places, key=apart)
        losses = f"loss {ours[seed][step - 1]:.6g} against {theirs[seed][step - 1]:.6g}"
        kernels = ",".join(
            f"{target}={self.comparison.arms['candidate'].kernels[target].name}" for target in self.comparison.targets
        )
        advice = (
            f"look at its gradients, which the loss feels first: train.py --kernels {kernels} --seed {seed} "
            f"--steps {last} --check-kernels 100% compares every call"
        )
        return replace(gate, note=f"{gate.note}; most with seed {seed} at step {step}: {losses}; {advice}")

    def _away(self, kind: str, seeds: list[int]) -> list[list[float]]:
        """Per seed the differences of the training loss to the baseline's, step by step."""
        baseline = self.losses["baseline"]
        return [[a - b for a, b in zip(self.losses[kind][seed], baseline[seed], strict=False)] for seed in seeds]

    def _evaluate(self, seeds: list[int], paired: list[int]) -> None:
        """Gates 2 and 3 from the val_bpb of all trainings."""
        steps = self.comparison.settings.steps
        wanted = [(arm, Run(seed, steps)) for arm in ARMS for seed in seeds]
        longer = [("candidate", Run(seed, self._longer)) for seed in paired]
        found = self.comparison.evaluate([*wanted, *longer])
        self.bpb = {
            **{arm: {seed: found[arm, Run(seed, steps)] for seed in seeds} for arm in ARMS},
            "candidate_equal_time": {run.seed: found[arm, run] for arm, run in longer},
        }
        for name, kind, compared in (("neutral", "candidate", seeds), ("benefit", "candidate_equal_time", paired)):
            self.gates[name] = self._loss_gate(name, kind, compared)
        benefit = self.gates["benefit"].numbers
        benefit.baseline_steps, benefit.candidate_steps = steps, self.equal_time_steps

    def _loss_gate(self, name: str, kind: str, seeds: list[int]) -> Gate:
        rows = [(seed, self.bpb["baseline"][seed], self.bpb[kind][seed]) for seed in seeds]
        pairs = []
        for seed, theirs, ours in rows:
            if theirs is None:
                raise LabFailure(f"val_bpb of the baseline is not finite for seed {seed}")
            if ours is None:
                return Gate(name, GateState.FAIL, f"val_bpb is not finite for seed {seed}")
            pairs.append(SeedLoss(seed=seed, baseline=theirs, candidate=ours, delta=ours - theirs))
        self.pairs[name] = pairs
        return rule.loss_gate(name, [pair.delta for pair in pairs], self.comparison.settings)


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _mean_curve(curves: list[list[float]]) -> list[float]:
    """Mean over seeds, step by step, to the digits that a chart can show."""
    return [round(statistics.fmean(values), 6) for values in zip(*curves, strict=False)]
