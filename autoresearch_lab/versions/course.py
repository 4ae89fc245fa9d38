"""The course of a trial: pairs of trainings, a look now and then, until it is decided or the time is over."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.trial import SideFailure, SidePair, VersionResults
from autoresearch_lab.statistics import t_interval
from autoresearch_lab.versions import rule as judge
from autoresearch_lab.versions.rule import LEAST_STEPS
from autoresearch_lab.versions.sides import Side, SideRefused, same_work
from autoresearch_lab.versions.training import SideFailed, SideTrainer, SideTraining
from autoresearch_trainer.config import preset
from autoresearch_trainer.train import UNTIMED_STEPS

CHECK_STEPS, CHECK_BATCHES = 2 * UNTIMED_STEPS, 4
# The slope is that of side a between so much of its length and all of it.
SLOPE_SHARE = 0.8
# Time outside of the steps that no clock counts, beyond what side a has of it.
OUTSIDE_SECONDS, OUTSIDE_SHARE = 5.0, 0.25


@dataclass
class Course:
    """The state of one trial while it runs. minutes: of this call; steps: of each side for equal tokens."""

    trainer: SideTrainer
    a: Side
    b: Side
    minutes: float
    tell: Callable[[str], None] = lambda line: None
    steps: dict[str, int] = field(default_factory=dict)
    found: VersionResults = field(default_factory=lambda: VersionResults(reason=""))
    runs: dict[tuple[str, int, int], SideTraining] = field(default_factory=dict)
    clock: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def run(self) -> str:
        """Its verdict; `found` has the results.

        Raises:
            SideRefused: a side refuses its options, or cheats.
            LabFailure: the set-up does not work.
        """
        try:
            self._prepare()
            verdict = self._looks()
        except SideFailed as failure:
            side = failure.side.name
            self.found.failed = SideFailure(side=side, kind=failure.kind, note=failure.note)
            self.found.reason = f"side {side} does not train ({failure.kind.replace('_', ' ')}): {failure.note}"
            verdict = "WORSE" if side == "b" else "UNDECIDED"
        self.found.seconds = round(sum(run.seconds for run in self.runs.values()), 1)
        self.found.reused = self.trainer.reused
        return verdict

    def _prepare(self) -> None:
        """Both sides' steps for equal tokens; a short training of each, which shows that they train and how long the
        trial takes."""
        rule, base = self.trainer.rule, preset(self.trainer.preset)
        tokens = {side.name: self.trainer.plan(side) for side in (self.a, self.b)}
        self.steps = {"a": rule.steps, "b": round(rule.steps * tokens["a"] / tokens["b"])}
        if self.steps["b"] < LEAST_STEPS:
            why = f" makes {self.steps['b']} steps of {tokens['b']} tokens meanwhile: give more --steps"
            raise SideRefused("b", why)
        few = CHECK_BATCHES * base.evaluated_batch * base.model.sequence_len
        pair = 0.0
        for side in (self.a, self.b):
            run = self.trainer.train(side, rule.seed, CHECK_STEPS, few, f"side {side.name}: a short training")
            self.runs[side.name, rule.seed, -1] = run
            training = run.seconds + (self.steps[side.name] * tokens[side.name]) / max(run.tokens_per_second, 1e-9)
            pair += training + (rule.eval_tokens or base.eval_tokens) * run.token_seconds
        predicted = [rule.looks[0] * pair, rule.looks[-1] * pair]
        self.found.predicted_seconds = [round(seconds, 1) for seconds in predicted]
        first, last = (seconds / 60 for seconds in predicted)
        self.tell(
            f"first look after {rule.looks[0]} pairs of trainings, {first:.1f} minutes or so; all {rule.looks[-1]} "
            f"{last:.1f} minutes, up to half more where the speeds differ; budget {self.minutes:g} minutes"
        )

    def _looks(self) -> str:
        rule = self.trainer.rule
        for look, count in enumerate(rule.looks, start=1):
            seeds = [rule.seed + index for index in range(count)]
            for index, seed in enumerate(seeds):
                if not self._pair(index, seed, count):
                    return self._out_of_time(index, count)
            slope = 0.0 if self.same_work else self._slope()
            self._set_clock(seeds)
            for index, seed in enumerate(seeds):
                stage = f"pair {index + 1} of {count}: side b in the time of side a"
                if self._time_is_over(seed, [(self.b, self._timed_steps)]):
                    return self._out_of_time(len(seeds), count)
                self._train(self.b, seed, self._timed_steps, stage)
            verdict = self._look(look, seeds, slope)
            if verdict != "UNDECIDED" or self.found.disturbed:
                return verdict
        return "UNDECIDED"

    def _pair(self, index: int, seed: int, count: int) -> bool:
        """A training of each side, in turns or one right after the other; each is the first of every other pair. False
        where there is no time for it."""
        asked = [(side, self.steps[side.name]) for side in ((self.a, self.b), (self.b, self.a))[index % 2]]
        if all((side.name, seed, steps) in self.runs for side, steps in asked):
            return True
        if self._time_is_over(seed, asked):
            return False
        stage = f"pair {index + 1} of {count}: seed {seed}"
        found = self.trainer.train_both(asked, seed, self.trainer.rule.eval_tokens, stage)
        self.runs |= {(side.name, seed, steps): one for (side, steps), one in zip(asked, found, strict=True)}
        return True

    def _train(self, side: Side, seed: int, steps: int, stage: str) -> SideTraining:
        place = side.name, seed, steps
        if place not in self.runs:
            self.runs[place] = self.trainer.train(side, seed, steps, self.trainer.rule.eval_tokens, stage)
        return self.runs[place]

    def _time_is_over(self, seed: int, asked: list[tuple[Side, int]]) -> bool:
        """Whether trainings of so many steps of sides, as long as those before them, would end after the budget does;
        the first ones are always made."""
        needed = 0.0
        for side, steps in asked:
            known = [run.seconds for (name, _, length), run in self.runs.items() if name == side.name and length > 0]
            if not known:
                return False
            if not self.trainer.has(side, seed, steps, self.trainer.rule.eval_tokens):
                needed += statistics.fmean(known)
        return needed > 0 and time.monotonic() - self.started + needed > 60 * self.minutes

    def _out_of_time(self, done: int, count: int) -> str:
        before = f"; after the last look: {self.found.reason}" if self.found.look else ""
        self.found.reason = (
            f"{self.minutes:g} minutes ended after {done} of {count} pairs: the same command goes on from there{before}"
        )
        return "UNDECIDED"

    def _slope(self) -> float:
        """Bits per byte that a factor of e in tokens is worth to side a."""
        seed, steps = self.trainer.rule.seed, self.steps["a"]
        shorter = max(UNTIMED_STEPS + 1, round(SLOPE_SHARE * steps))
        less = self._train(self.a, seed, shorter, "side a: what more tokens are worth")
        return max(0.0, (less.val_bpb - self._of("a", seed).val_bpb) / math.log(steps / shorter))

    def _of(self, side: str, seed: int) -> SideTraining:
        return self.runs[side, seed, self.steps[side]]

    @property
    def same_work(self) -> bool:
        """Whether equal tokens are equal time, whatever speeds were measured."""
        return same_work(self.a, self.b)

    def _log_ratio(self, seed: int) -> float:
        if self.same_work:
            return 0.0
        return math.log(self._of("b", seed).tokens_per_second / self._of("a", seed).tokens_per_second)

    @property
    def _timed_steps(self) -> int:
        """Of side b, in the time that side a needs for its own."""
        return max(UNTIMED_STEPS + 1, round(self.steps["b"] * math.exp(self.clock)))

    def _set_clock(self, seeds: list[int]) -> None:
        """Set the virtual clock by the speeds so far, unless it is near enough already."""
        clock = judge.clock_for([self._log_ratio(seed) for seed in seeds], self.clock, self.trainer.rule)
        if clock != self.clock:
            self.clock = clock
            self.clock = math.log(self._timed_steps / self.steps["b"])  # of whole steps

    def _look(self, look: int, seeds: list[int], slope: float) -> str:
        """Judge the pairs so far."""
        rule, found = self.trainer.rule, self.found
        found.pairs = [self._judged(seed, slope) for seed in seeds]
        whole = judge.interval([pair.delta for pair in found.pairs], rule)
        tokens = judge.interval([pair.b - pair.a for pair in found.pairs], rule)
        ratio = t_interval([pair.log_ratio for pair in found.pairs], rule.look_alpha).ratio()
        found.look, found.level, found.slope = look, 1 - rule.look_alpha, slope
        found.delta, found.lower, found.upper = whole.point, whole.low, whole.high
        found.tokens_delta, found.tokens_lower, found.tokens_upper = tokens.point, tokens.low, tokens.high
        found.ratio, found.ratio_lower, found.ratio_upper = ratio.point, ratio.low, ratio.high
        found.timed_steps = self._timed_steps
        sides = {side: [self._of(side, seed) for seed in seeds] for side in "ab"}
        found.tokens_per_second = {s: statistics.fmean(r.tokens_per_second for r in runs) for s, runs in sides.items()}
        found.peak_memory_mb = {s: max(r.peak_memory_mb for r in runs) for s, runs in sides.items()}
        found.val_bpb = {
            "a": statistics.fmean(pair.a for pair in found.pairs),
            "b": statistics.fmean(pair.timed for pair in found.pairs),
        }
        shown = f"{whole.point:+.4f} [{whole.low:+.4f}, {whole.high:+.4f}]"
        found.reason = f"val_bpb at equal time {shown} over {len(seeds)} seeds"
        return self._objections(judge.verdict(whole, rule), sides)

    def _objections(self, verdict: str, sides: dict[str, list[SideTraining]]) -> str:
        """The verdict, or UNDECIDED where the speeds behind it cannot be trusted."""
        rule, found = self.trainer.rule, self.found
        if self.same_work:
            found.remarks = ["a step of both sides does the same work, so equal tokens are equal time"]
            return verdict
        foreign = statistics.fmean(pair.foreign_share for pair in found.pairs)
        found.disturbed = foreign > rule.foreign_limit
        outside = {side: statistics.fmean(run.outside_seconds for run in runs) for side, runs in sides.items()}
        hidden = outside["b"] - outside["a"]
        counted = statistics.fmean(run.step_seconds for run in sides["b"])
        if found.disturbed:
            self.trainer.forget_busy(self.runs)
            found.reason += f"; other processes used {foreign:.0%} of the cores: run it again on a quieter machine"
            return "UNDECIDED"
        if verdict == "BETTER" and hidden > OUTSIDE_SECONDS + OUTSIDE_SHARE * counted:
            found.reason += f"; side b works {hidden:.1f} s longer than side a outside of its steps, on no clock"
            return "UNDECIDED"
        return verdict

    def _judged(self, seed: int, slope: float) -> SidePair:
        a, b, log_ratio = self._of("a", seed), self._of("b", seed), self._log_ratio(seed)
        timed = self.runs["b", seed, self._timed_steps]
        if not math.isfinite(log_ratio):
            raise LabFailure(f"no speed was measured with seed {seed}")
        return SidePair(
            seed=seed,
            a=a.val_bpb,
            b=b.val_bpb,
            timed=timed.val_bpb,
            log_ratio=log_ratio,
            delta=judge.equal_time(timed.val_bpb, a.val_bpb, log_ratio, self.clock, slope),
            foreign_share=(a.foreign_share + b.foreign_share) / 2,
        )
