"""Trainings of a side: its own train.py in its own tree, then val_bpb of the weights by the lab; each is kept."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.results.trial import FailedHow
from autoresearch_lab.training_progress import TrainingStep
from autoresearch_lab.versions.evaluation import NotEvaluated, evaluate
from autoresearch_lab.versions.process import CommandEnd, execute
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.side_files import SidePlan, SideRun, steps_made
from autoresearch_lab.versions.sides import OPTIONS, Side, SideRefused
from autoresearch_lab.versions.turns import TURN_SECONDS, TURN_STEPS, Pause, execute_in_turns, settled, without_pauses
from autoresearch_trainer.config import preset
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.loop import RUN_FILE, WEIGHTS_FILE
from autoresearch_trainer.memory import system_bytes
from autoresearch_trainer.summary import throughput
from autoresearch_trainer.train import UNTIMED_STEPS

BAD_INPUT, KILLED = 2, -9
LIMIT_SECONDS, PLAN_SECONDS = 900.0, 120.0
CLOCK_TOLERANCE = 1.02
# Trainings of fewer steps are over before their turns begin; of the memory that one takes, so much must be free for
# each.
LEAST_IN_TURNS, MEMORY_MARGIN = 60, 1.5


class SideFailed(Exception):
    """A side does not train, or leaves nothing that can be evaluated."""

    def __init__(self, side: Side, kind: FailedHow, note: str) -> None:
        super().__init__(note)
        self.side, self.kind, self.note = side, kind, note


@dataclass(frozen=True)
class SideTraining:
    """One training with its val_bpb. step_seconds: sum over all steps; outside_seconds: of the training's process,
    beyond its steps; seconds: of all, the evaluation included, which took evaluation_seconds, and token_seconds a
    token."""

    val_bpb: float
    tokens_per_second: float
    step_seconds: float
    outside_seconds: float
    peak_memory_mb: float
    foreign_share: float
    seconds: float
    evaluation_seconds: float
    token_seconds: float


@dataclass
class _Trained:
    """A training of a side, and what it left in `out`. pauses: for which it was stopped; stopped_in: the steps in which
    that happened."""

    side: Side
    steps: int
    out: Path
    ended: CommandEnd
    pauses: Sequence[Pause] = ()
    stopped_in: Sequence[int] = ()
    run: SideRun = field(init=False)

    @property
    def rate(self) -> float:
        """Tokens per second: of its undisturbed turns, where it had turns, else of all steps that are timed."""
        seconds, tokens = self.run.step_seconds, self.run.config.total_batch_tokens
        if kept := settled(len(seconds), self.stopped_in, UNTIMED_STEPS):
            return tokens * len(kept) / sum(seconds[step] for step in kept)
        return throughput(seconds, tokens)[0] or 0.0


@dataclass
class SideTrainer:
    """What trains sides: where, by which rule, and what is kept of it. reference: the lab's own trainer, which says
    whose fault it is when a side does not train. limit: seconds that a training may take, and one for each step.
    memory_mb: the most that a training took so far. has_turns: whether trainings went well in turns."""

    context: Context
    preset: str
    rule: TrialRule
    cache: Cache
    folder: Path
    identity: str
    listen: Report = lambda message: None
    reference: Path = CHECKOUT
    limit: float = LIMIT_SECONDS
    reused: int = 0
    memory_mb: float = 0.0
    has_turns: bool = True
    plans: dict[str, SidePlan] = field(default_factory=dict)

    def plan(self, side: Side) -> int:
        """Tokens of the side's optimizer step, by its own word; its batch is settled from now on.

        Raises:
            SideRefused: it refuses the preset, the dataset or one of its options.
        """
        ended, out = self._execute(side, ["--print-config", "--json"], PLAN_SECONDS)
        try:
            if ended.code == BAD_INPUT:
                raise SideRefused(side.name, f": {ended.error}")
            if ended.code != 0:
                raise self._failed(side, ended, out)
            self.plans[side.name] = SidePlan.model_validate_json((out / "stdout.log").read_bytes())
        except ValidationError:
            raise SideRefused(side.name, " has no train.py --print-config --json as this one has") from None
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return self.plans[side.name].config.total_batch_tokens

    def train_both(
        self, asked: Sequence[tuple[Side, int]], seed: int, eval_tokens: int | None, stage: str
    ) -> list[SideTraining]:
        """Of each side a training as `train` has it, of so many steps, from the same seed: in turns where that is
        possible (see `turns`), else one after the other. Taken over where this trial has them already.

        Raises:
            SideFailed, SideRefused, LabFailure: as `train`.
        """
        known = any(self.has(side, seed, steps, eval_tokens) for side, steps in asked)
        if known or not self.in_turns(len(asked), min(steps for _, steps in asked)):
            return [self.train(side, seed, steps, eval_tokens, f"{stage}, side {side.name}") for side, steps in asked]
        self.listen({"stage": f"{stage}, both sides in turns"})
        started = time.monotonic()
        trained = self._trained_in_turns(asked, seed, "--save-weights")
        share = (time.monotonic() - started) / len(asked)
        found = [self._evaluated(one, seed, eval_tokens, share) for one in trained]
        for (side, steps), one in zip(asked, found, strict=True):
            self.cache.put(self._key(side.name, seed, steps, eval_tokens), asdict(one))
        return found

    def in_turns(self, count: int, steps: int) -> bool:
        """Whether so many trainings of so many steps can run in turns here: on a CPU, whose speed moves, and where
        there is memory for all of them. How much one takes is known after the first."""
        here = sys.platform == "linux" and self.context.engine.job_device == "cpu" and self.has_turns
        if not here or steps < LEAST_IN_TURNS or not self.memory_mb:
            return False
        return count * MEMORY_MARGIN * self.memory_mb < system_bytes() / 2**20

    def train(self, side: Side, seed: int, steps: int, eval_tokens: int | None, stage: str) -> SideTraining:
        """A training from that seed, and its val_bpb; taken over where this trial has it already.

        Raises:
            SideFailed: the side is at fault.
            SideRefused: it cheats: its own model looks ahead, or gives losses that are not its own.
            LabFailure: the set-up is at fault: the lab's own trainer does not train either.
        """
        key = self._key(side.name, seed, steps, eval_tokens)
        known = self.cache.get(key)
        if known is not None:
            self.reused += 1
            training = SideTraining(**known)
            self.memory_mb = max(self.memory_mb, training.peak_memory_mb)
            return training
        self.listen({"stage": stage})
        started = time.monotonic()
        trained = self._trained(side, seed, steps, "--save-weights")
        found = self._evaluated(trained, seed, eval_tokens, time.monotonic() - started)
        self.cache.put(key, asdict(found))
        return found

    def speeds(self, sides: Sequence[Side], seed: int, steps: int) -> tuple[list[float], float]:
        """(tokens per second of each, share of the cores that others used) of trainings that are neither evaluated nor
        kept: in turns where that is possible, else one after the other. A side may come more than once.

        Raises:
            SideFailed, LabError, LabFailure: as `train`.
        """
        if len(sides) > 1 and self.in_turns(len(sides), steps):
            trained = self._trained_in_turns([(side, steps) for side in sides], seed)
        else:
            trained = [self._trained(side, seed, steps) for side in sides]
        for one in trained:
            shutil.rmtree(one.out, ignore_errors=True)
        return [one.rate for one in trained], max(one.ended.foreign_share for one in trained)

    def forget_busy(self, runs: Mapping[tuple[str, int, int], SideTraining]) -> None:
        """Another call trains again what foreign load disturbed: {(side, seed, steps): training}."""
        for (name, seed, steps), run in runs.items():
            if run.foreign_share > self.rule.foreign_limit:
                self.cache.drop(self._key(name, seed, steps, self.rule.eval_tokens))

    def has(self, side: Side, seed: int, steps: int, eval_tokens: int | None) -> bool:
        """Whether `train` takes no time."""
        return self.cache.get(self._key(side.name, seed, steps, eval_tokens)) is not None

    def _key(self, side: str, seed: int, steps: int, eval_tokens: int | None) -> dict[str, Any]:
        run = {"side": side, "seed": seed, "steps": steps, "eval_tokens": eval_tokens}
        return {"what": "version", "trial": self.identity, **run}

    def _trained(self, side: Side, seed: int, steps: int, *more: str) -> _Trained:
        """A training that ended well, with the least evaluation that train.py makes."""
        arguments = self._arguments(side, seed, steps, more)
        ended, out = self._execute(side, arguments, self.limit + steps)
        if ended.code == KILLED:  # something else ended it, which says nothing about the side; a second time it counts
            ended, out = self._execute(side, arguments, self.limit + steps)
        return self._judged(_Trained(side, steps, out, ended))

    def _trained_in_turns(self, asked: Sequence[tuple[Side, int]], seed: int, *more: str) -> list[_Trained]:
        """The same of several at once; no step is timed while another one computes."""
        trained = self._execute_in_turns(asked, seed, more)
        if any(one.ended.code == KILLED for one in trained):
            trained = self._execute_in_turns(asked, seed, more)
        found = [self._judged(one) for one in sorted(trained, key=lambda one: one.ended.code in (0, None))]
        self.has_turns = all(settled(one.steps, one.stopped_in, UNTIMED_STEPS) for one in found)
        if not self.has_turns:  # over before they began: one computed beside the other, and no speed means anything
            return [self._trained(side, seed, steps, *more) for side, steps in asked]
        return trained

    def _execute_in_turns(self, asked: Sequence[tuple[Side, int]], seed: int, more: Sequence[str]) -> list[_Trained]:
        outs = [self._out(side, f"-{place}") for place, (side, _) in enumerate(asked)]
        tokens = [self.plans[side.name].config.total_batch_tokens for side, _ in asked]

        def turn(place: int) -> float | None:
            return _turn_seconds(steps_made(outs[place]), tokens[place])

        ends = execute_in_turns(
            [
                [*self._command(side), "--out", str(out), *self._arguments(side, seed, steps, more)]
                for (side, steps), out in zip(asked, outs, strict=True)
            ],
            [side.folder for side, _ in asked],
            outs,
            sum(self.limit + steps for _, steps in asked),
            turn,
        )
        return [
            _Trained(side, steps, out, end, pauses)
            for (side, steps), out, (end, pauses) in zip(asked, outs, ends, strict=True)
        ]

    def _judged(self, trained: _Trained) -> _Trained:
        """The same with what its run.json says. Raises as `train`, where it did not end well."""
        if trained.ended.code != 0:
            raise self._failed(trained.side, trained.ended, trained.out)
        trained.run = self._read(trained)
        self.memory_mb = max(self.memory_mb, trained.run.summary.peak_vram_mb)
        return trained

    def _arguments(self, side: Side, seed: int, steps: int, more: Sequence[str]) -> list[str]:
        plan, base = self.plans[side.name].config, preset(self.preset)
        batch = (plan.eval_batch_size or base.evaluated_batch) * base.model.sequence_len
        arguments = ["--steps", str(steps), "--seed", str(seed), "--eval-tokens", str(batch), "--no-checkpoint", *more]
        if "batch_size" not in side.options:
            arguments += ["--batch-size", str(plan.batch_size)]  # whatever memory is free later
        return arguments

    def _evaluated(self, trained: _Trained, seed: int, eval_tokens: int | None, seconds: float) -> SideTraining:
        """What a training that took `seconds` came to; its files go."""
        side, run, ended, out = trained.side, trained.run, trained.ended, trained.out
        engine, base, started = self.context.engine, preset(self.preset), time.monotonic()
        try:
            evaluated = evaluate(side, out / WEIGHTS_FILE, base, eval_tokens, (engine.package, engine.job_device))
        except NotEvaluated as error:
            if error.cheats:
                raise SideRefused(side.name, f" changes the evaluation: {error}, so it is not tried") from None
            raise SideFailed(side, "crash", str(error)) from None
        if not math.isfinite(evaluated.val_bpb):
            raise SideFailed(side, "diverged", f"val_bpb with seed {seed} is {evaluated.val_bpb}")
        shutil.rmtree(out, ignore_errors=True)
        counted = sum(run.step_seconds)
        return SideTraining(
            val_bpb=evaluated.val_bpb,
            tokens_per_second=trained.rate,
            step_seconds=counted,
            outside_seconds=ended.seconds - counted,
            peak_memory_mb=run.summary.peak_vram_mb,
            foreign_share=ended.foreign_share,
            seconds=seconds + time.monotonic() - started,
            evaluation_seconds=evaluated.seconds,
            token_seconds=evaluated.token_seconds,
        )

    def _read(self, trained: _Trained) -> SideRun:
        """run.json of a training that ended well, without the time that it was stopped. Raises SideFailed where it is
        none, SideRefused for a wrong clock."""
        side, steps, ended = trained.side, trained.steps, trained.ended
        try:
            run = SideRun.model_validate_json((trained.out / RUN_FILE).read_bytes())
        except (OSError, ValidationError):
            raise SideFailed(side, "crash", f"it left no {RUN_FILE} that can be read") from None
        counted = sum(run.step_seconds)
        if len(run.step_seconds) != steps or not all(0 < one < math.inf for one in run.step_seconds):
            raise SideFailed(side, "crash", f"{len(run.step_seconds)} steps are timed in its {RUN_FILE}, not {steps}")
        passed = ended.seconds + sum(pause.seconds for pause in trained.pauses)
        if counted > CLOCK_TOLERANCE * passed:
            raise SideRefused(side.name, f": {counted:.1f} s of steps in {passed:.1f} s by the lab's clock")
        made = [(line.time, line.step) for line in steps_made(trained.out)]
        run.step_seconds, trained.stopped_in = without_pauses(run.step_seconds, trained.pauses, made)
        return run

    def _execute(self, side: Side, arguments: list[str], seconds: float) -> tuple[CommandEnd, Path]:
        out = self._out(side)
        command = [*self._command(side), "--out", str(out), *arguments]
        return execute(command, side.folder, out, seconds), out

    def _out(self, side: Side, more: str = "") -> Path:
        """An empty folder for what a side's process leaves."""
        out = self.folder / f"side-{side.name}{more}"
        shutil.rmtree(out, ignore_errors=True)
        return writable_folder(out, "run folder")

    def _command(self, side: Side) -> list[str]:
        named = {"kernels": "baseline", **side.options}
        words = [str(word) for name, word in named.items() if name in OPTIONS for word in (OPTIONS[name], word)]
        for name, value in side.options.items():
            words += [] if name in OPTIONS else ["--set", f"{name}={value}"]
        common = ["--engine", self.context.engine.name, "--preset", self.preset, "--dataset", side.dataset.name]
        common += ["--data-dir", str(side.dataset.parent), "--results", str(self.folder / "results.tsv")]
        return [sys.executable, str(side.folder / "train.py"), *common, *words]

    def _failed(self, side: Side, ended: CommandEnd, out: Path) -> SideFailed:
        """Whose fault it is that a side's command failed, and how it failed.

        Raises:
            LabFailure: the lab's own trainer does not train either.
        """
        self.listen({"stage": f"side {side.name} failed; does the lab's own trainer train?"})
        place = writable_folder(self.folder / "reference", "run folder")
        arguments = ["--engine", self.context.engine.name, "--preset", self.preset, "--dataset", side.dataset.name]
        arguments += ["--data-dir", str(side.dataset.parent), "--out", str(place), "--kernels", "baseline", "--smoke"]
        own = execute(
            [sys.executable, str(self.reference / "train.py"), *arguments], self.reference, place, LIMIT_SECONDS
        )
        if own.code != 0:
            raise LabFailure(f"the set-up failed, not side {side.name}: the lab's own trainer says: {own.error}")
        return SideFailed(side, *_kind(ended, _error(out) or ended.error))


def _turn_seconds(made: Sequence[TrainingStep], tokens: int) -> float | None:
    """How long the next turn of a training should be, of `tokens` a step; None where it has made no step yet. The first
    one, which compiles, says nothing of the others."""
    if not made or made[-1].tokens_per_second <= 0:
        return None
    return max(TURN_SECONDS, TURN_STEPS * tokens / made[-1].tokens_per_second) if len(made) > 1 else TURN_SECONDS


def _error(out: Path) -> str:
    try:
        return str(json.loads((out / RUN_FILE).read_text(encoding="utf-8")).get("error") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _kind(ended: CommandEnd, error: str) -> tuple[FailedHow, str]:
    """How a side failed, by its exit code and by train.py's own words."""
    if ended.code is None:
        return "hung", f"no end within {ended.seconds:.0f} s"
    if ended.code == KILLED:
        return "out_of_memory", "the system ended it twice with SIGKILL: memory ran out"
    if "out of memory" in error.lower() or "can't allocate" in error or "MemoryError" in error:
        return "out_of_memory", error
    if error.startswith(("loss is", "val_bpb of")):
        return "diverged", error
    return "crash", error or f"exit code {ended.code}"
