"""The course of a fit: successive halving over shapes, then the best of them beside the default in fresh pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.fit.budget import COMPILE_SECONDS, MOST_PAIRS, Costs, FitBudget, divide
from autoresearch_lab.fit.curve import Forecast, Point, forecast
from autoresearch_lab.fit.shapes import crossed, neighbours
from autoresearch_lab.fit.training import BAD_INPUT, EvaluatedRung, ShapeFailed, ShapeTrainer
from autoresearch_lab.results.fit import FitPair, FitResults, FitRun, FitSettings, FitStage, ForecastShape, RungCost
from autoresearch_lab.statistics import t_interval
from autoresearch_trainer.config import preset
from autoresearch_trainer.rungs import RUNGS

FIRST_SECONDS = 4
ALPHA = 0.01  # of one side of the pairs' interval, as in a trial
ZONE = 0.02  # bits per byte within which shapes are as good at the horizon
LONGER = 8  # horizons
PAIRS_STAGE, EVALUATED_PAIRS = 4, 2


@dataclass
class FitCourse:
    """The state of one fit. clock: seconds that its trainings took, also those of calls that were killed, so that a fit
    that goes on divides its budget as it did before."""

    trainer: ShapeTrainer
    settings: FitSettings
    tell: Callable[[str], None] = lambda line: None
    runs: list[FitRun] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)
    evaluated: list[dict[str, EvaluatedRung]] = field(default_factory=list)
    clock: float = 0.0

    def run(self) -> tuple[str, FitResults]:
        """(verdict, results): whether a shape is BETTER than the default, or the best one WORSE; else UNDECIDED.

        Raises:
            LabError: train.py refuses the preset or the dataset.
            LabFailure: the default itself does not train.
        """
        default = self.settings.preset
        first = self._train(
            default, 0, FitStage(shapes=1, seconds=FIRST_SECONDS, automatic=True), "the default, to begin"
        )
        if first is None:
            raise LabFailure(f"preset {default} itself does not train: {self.dropped[default]}")
        shapes = neighbours(default, first.tokens_per_step)
        start = max(1.0, first.wall_seconds - FIRST_SECONDS - first.compile_seconds)
        # Compiled code that was there already says nothing of what another shape's takes.
        costs = Costs(start, max(COMPILE_SECONDS, first.compile_seconds) if first.compiled else 0.0)
        left = None if self.settings.minutes is None else 60 * self.settings.minutes - first.wall_seconds
        budget = divide(left, len(shapes), costs, first.compiled)
        asked = f"{self.settings.minutes:g} minutes are asked for" if self.settings.minutes else "no limit"
        self.tell(f"{_planned(budget)}: {budget.seconds / 60:.0f} minutes or so; {asked}")
        for number, stage in enumerate(budget.stages, start=1):
            shapes = self._halve(shapes, number, stage)
            better = shapes[: shapes.index(default)]
            new = crossed(default, first.tokens_per_step, better) if number == 1 and len(better) > 1 else None
            if new is not None and new not in (*shapes, *self.dropped):
                shapes.insert(1, new)
        candidate = next((name for name in shapes if name != default), None)
        pairs = list(self._pairs(candidate, budget)) if candidate else []
        return self._answer(candidate, pairs, budget, budget.seconds + first.wall_seconds)

    def _train(self, name: str, stage: int, length: FitStage, about: str, seed: int | None = None) -> FitRun | None:
        """None where the shape does not train, which is noted; a pair's training stays for its evaluation."""
        seed = self.settings.seed if seed is None else seed
        try:
            found = self.trainer.train(name, seed, stage, length, f"{about}: {name}, {length.seconds} s")
        except ShapeFailed as failure:
            if name == self.settings.preset and failure.code == BAD_INPUT:
                raise LabError(str(failure)) from None
            self.dropped[name] = str(failure)
            self.tell(f"{name} is left out: {failure}")
            return None
        finally:
            if stage != PAIRS_STAGE:
                self.trainer.forget(name, seed)
        self.runs.append(found)
        self.clock += found.wall_seconds
        self.tell(
            f"{about}: {name} has val_bpb {found.val_bpb:.4f} after {found.seconds} s, {found.steps} steps, "
            f"{found.tokens_per_second:,.0f} tokens/s{'' if found.automatic else ' uncompiled'}"
        )
        return found

    def _halve(self, names: list[str], number: int, stage: FitStage) -> list[str]:
        """Train the best of them so far; the answer has those that trained, by what they come to at the horizon."""
        default, chosen = self.settings.preset, names[: stage.shapes]
        if default not in chosen:  # whatever it comes to, the others are compared with it
            chosen = [*chosen[:-1], default]
        trained = []
        for index, name in enumerate(chosen, start=1):
            about = f"stage {number}, shape {index} of {len(chosen)}"
            if self._train(name, number, stage, about) is not None:
                self.came[name] = number
                trained.append(name)
            elif name == default:
                raise LabFailure(f"preset {default} itself does not train: {self.dropped[default]}")
        found = self._forecast(trained, [1])
        return sorted(trained, key=lambda name: found.mean[trained.index(name)])

    def _forecast(self, names: list[str], horizons: list[int]) -> Forecast:
        """Of these shapes after each number of horizons."""
        seen = [(Point(run.preset, float(run.tokens)), run.val_bpb) for run in self.runs]
        seconds = self.settings.horizon
        return forecast(seen, [Point(name, self._speed(name) * seconds * many) for many in horizons for name in names])

    def _speed(self, name: str) -> float:
        """Tokens per second as train.py would have them: of a shape that was not compiled yet, by what compiling makes
        of the default."""
        own = self._speeds(name, automatic=True)
        if own:
            return statistics.median(own)
        default = self.settings.preset
        gain = statistics.median(self._speeds(default, True)) / statistics.median(self._speeds(default, False))
        return gain * statistics.median(self._speeds(name, False))

    def _speeds(self, name: str, automatic: bool) -> list[float]:
        """Without the first training, whose steps are few, where there are others."""
        runs = [run for run in self.runs if run.preset == name and run.automatic == automatic]
        return [run.tokens_per_second for run in [run for run in runs if run.stage > 0] or runs]

    def _pairs(self, candidate: str, budget: FitBudget) -> Iterator[FitPair]:
        """Fresh seeds, for those that chose the candidate favour it; more pairs than planned where there is time."""
        length = FitStage(shapes=2, seconds=budget.pair_seconds, automatic=True)
        began, minutes = self.clock, self.settings.minutes
        for number in range(budget.pairs if minutes is None else MOST_PAIRS):
            each = (self.clock - began) / max(number, 1)
            if number > 1 and minutes is not None and self.clock + each > 60 * minutes:
                return
            seed, found = self.settings.seed + 1 + number, {}
            for name in ((self.settings.preset, candidate), (candidate, self.settings.preset))[number % 2]:
                run = self._train(name, PAIRS_STAGE, length, f"pair {number + 1}", seed)
                if run is None:
                    return
                if number < EVALUATED_PAIRS and (rungs := self.trainer.rungs(run)):
                    self.evaluated.append(rungs)
                    self.clock += rungs["full"].seconds
                self.trainer.forget(name, seed)
                found[name] = run.val_bpb
            default, own = found[self.settings.preset], found[candidate]
            yield FitPair(seed=seed, default=default, candidate=own, delta=own - default)

    def _answer(
        self, candidate: str | None, pairs: list[FitPair], budget: FitBudget, predicted: float
    ) -> tuple[str, FitResults]:
        default, names = self.settings.preset, list(self.came)
        near, far = self._forecast(names, [1]), self._forecast(names, [LONGER])
        share = statistics.fmean(run.foreign_share for run in self.runs)
        shapes = [self._shape(name, near.bounds(index)) for index, name in enumerate(names)]
        at = {name: index for index, name in enumerate(names)}
        found = FitResults(
            reason="", recommended=default, lower=default, upper=default, zone=ZONE, exponent=near.exponent,
            longer_seconds=LONGER * self.settings.horizon, pair_seconds=budget.pair_seconds, stages=list(budget.stages),
            shapes=sorted(shapes, key=lambda shape: shape.val_bpb), runs=self.runs, pairs=pairs, dropped=self.dropped,
            rungs=_rung_costs(self.evaluated), disturbed=share > self.settings.foreign_limit,
            predicted_seconds=round(predicted, 1), seconds=round(self.clock, 1), reused=self.trainer.reused,
        )  # fmt: skip
        verdict = "UNDECIDED"
        if candidate in at and len(pairs) > 1:
            delta = t_interval([pair.delta for pair in pairs], ALPHA)
            found.candidate, found.level = candidate, 1 - 2 * ALPHA
            found.delta, found.delta_lower, found.delta_upper = delta.point, delta.low, delta.high
            found.gain_lower, found.gain, found.gain_upper = near.difference(at[candidate], at[default])
            if delta.high < 0 and found.gain < 0:
                verdict = "BETTER"
            elif delta.low > 0:
                verdict = "WORSE"
        if found.disturbed:
            verdict = "UNDECIDED"
        found.recommended = candidate if candidate and verdict == "BETTER" else default
        found.reason = self._reason(verdict, found, share)
        best = next(shape for shape in shapes if shape.preset == found.recommended)
        zone = sorted((s for s in shapes if s.val_bpb <= best.val_bpb + ZONE), key=lambda shape: shape.parameters)
        found.lower, found.upper = zone[0].preset, zone[-1].preset
        larger = [s.preset for s in shapes if s.parameters > best.parameters and self._known(s.preset)]
        if larger:
            found.longer = min(larger, key=lambda name: far.mean[at[name]])
        return verdict, found

    def _known(self, name: str) -> bool:
        """Whether more than a short first training is known of it."""
        return self.came[name] > 1

    def _shape(self, name: str, bounds: tuple[float, float, float]) -> ForecastShape:
        runs, speed = [run for run in self.runs if run.preset == name], self._speed(name)
        model, per_step = preset(name).model, runs[-1].tokens_per_step
        low, mean, high = bounds
        return ForecastShape(
            preset=name, depth=model.n_layer, width=model.n_embd, tokens_per_step=per_step,
            parameters=runs[-1].parameters, stages=self.came[name], tokens_per_second=speed,
            steps=math.floor(speed * self.settings.horizon / per_step), memory_mb=max(run.memory_mb for run in runs),
            val_bpb=mean, lower=low, upper=high,
        )  # fmt: skip

    def _reason(self, verdict: str, found: FitResults, share: float) -> str:
        default = self.settings.preset
        if found.candidate is None:
            return f"no shape besides {default} trains here, or the pairs were not made"
        low, high = found.delta_lower, found.delta_upper
        shown = f"{found.delta:+.4f} [{low:+.4f}, {high:+.4f}] over {len(found.pairs)} seeds of {found.pair_seconds} s"
        words = {
            "BETTER": f"{found.candidate} is better than {default}",
            "WORSE": f"{default} is the best; {found.candidate} comes next",
        }.get(verdict, f"nothing is surely better than {default}; {found.candidate} comes nearest")
        busy = f"; other processes used {share:.0%} of the cores: run it again on a quieter machine"
        return f"{words}: val_bpb {shown}" + (busy if found.disturbed else "")


def _planned(budget: FitBudget) -> str:
    stages = ", then ".join(
        f"{stage.shapes} shapes for {stage.seconds} s{'' if stage.automatic else ' uncompiled'}"
        for stage in budget.stages
    )
    return f"{stages}, then {budget.pairs} pairs of {budget.pair_seconds} s"


def _rung_costs(models: list[dict[str, EvaluatedRung]]) -> list[RungCost]:
    """What each rung costs and errs; nothing where no model was evaluated."""
    return [_rung_cost(name, [rungs[name] for rungs in models]) for name in RUNGS] if models else []


def _rung_cost(name: str, found: list[EvaluatedRung]) -> RungCost:
    errors = [rung.error for rung in found]
    apart = [one - other for one, other in combinations(errors, 2)]
    return RungCost(
        rung=name,
        tokens=found[0].tokens,
        seconds=statistics.fmean(rung.seconds for rung in found),
        level=_root_mean_square(errors),
        worst=max(map(abs, errors)),
        difference=_root_mean_square(apart) if apart else None,
        standard_error=statistics.fmean(rung.standard_error or 0.0 for rung in found),
    )


def _root_mean_square(values: list[float]) -> float:
    return math.sqrt(statistics.fmean(value * value for value in values))
