"""Trainings of a side: its own train.py in its own tree, then val_bpb of the weights by the lab; each is kept."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.results.trial import FailedHow
from autoresearch_lab.versions.evaluation import NotEvaluated, evaluate
from autoresearch_lab.versions.process import CommandEnd, execute
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.sides import OPTIONS, Side, SideRefused
from autoresearch_trainer.config import preset
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.loop import RUN_FILE, WEIGHTS_FILE
from autoresearch_trainer.summary import throughput

BAD_INPUT, KILLED = 2, -9
LIMIT_SECONDS, PLAN_SECONDS = 900.0, 120.0
CLOCK_TOLERANCE = 1.02


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


class _Config(BaseModel):
    total_batch_tokens: int
    batch_size: int
    eval_batch_size: int | None = None


class _Choice(BaseModel):
    name: str
    value: str
    why: str


class _Plan(BaseModel):
    """Of what `train.py --print-config --json` says."""

    config: _Config
    choices: list[_Choice] = []


class _Summary(BaseModel):
    peak_vram_mb: float


class _RunFile(BaseModel):
    """Of run.json."""

    config: _Config
    step_seconds: list[float]
    summary: _Summary


@dataclass
class SideTrainer:
    """What trains sides: where, by which rule, and what is kept of it. reference: the lab's own trainer, which says
    whose fault it is when a side does not train. limit: seconds that a training may take, and one for each step."""

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
    plans: dict[str, _Plan] = field(default_factory=dict)

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
            self.plans[side.name] = _Plan.model_validate_json((out / "stdout.log").read_bytes())
        except ValidationError:
            raise SideRefused(side.name, " has no train.py --print-config --json as this one has") from None
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return self.plans[side.name].config.total_batch_tokens

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
            return SideTraining(**known)
        self.listen({"stage": stage})
        started = time.monotonic()
        found = self._once(side, seed, steps, eval_tokens, started)
        self.cache.put(key, asdict(found))
        return found

    def speed(self, side: Side, seed: int, steps: int) -> tuple[float, float]:
        """(tokens per second, share of the cores that others used) of a training that is neither evaluated nor kept.

        Raises:
            SideFailed, LabError, LabFailure: as `train`.
        """
        run, ended, out = self._trained(side, seed, steps)
        shutil.rmtree(out, ignore_errors=True)
        return _rate(run), ended.foreign_share

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

    def _trained(self, side: Side, seed: int, steps: int, *more: str) -> tuple[_RunFile, CommandEnd, Path]:
        """A training that ended well, with the least evaluation that train.py makes, and where it left its files."""
        plan, base = self.plans[side.name].config, preset(self.preset)
        batch = (plan.eval_batch_size or base.evaluated_batch) * base.model.sequence_len
        arguments = ["--steps", str(steps), "--seed", str(seed), "--eval-tokens", str(batch), "--no-checkpoint"]
        arguments += more
        if "batch_size" not in side.options:
            arguments += ["--batch-size", str(plan.batch_size)]  # whatever memory is free later
        ended, out = self._execute(side, arguments, self.limit + steps)
        if ended.code == KILLED:  # something else ended it, which says nothing about the side; a second time it counts
            ended, out = self._execute(side, arguments, self.limit + steps)
        if ended.code != 0:
            raise self._failed(side, ended, out)
        return self._read(side, out, steps, ended), ended, out

    def _once(self, side: Side, seed: int, steps: int, eval_tokens: int | None, started: float) -> SideTraining:
        run, ended, out = self._trained(side, seed, steps, "--save-weights")
        engine, base = self.context.engine, preset(self.preset)
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
            tokens_per_second=_rate(run),
            step_seconds=counted,
            outside_seconds=ended.seconds - counted,
            peak_memory_mb=run.summary.peak_vram_mb,
            foreign_share=ended.foreign_share,
            seconds=time.monotonic() - started,
            evaluation_seconds=evaluated.seconds,
            token_seconds=evaluated.token_seconds,
        )

    def _read(self, side: Side, out: Path, steps: int, ended: CommandEnd) -> _RunFile:
        """run.json of a training that ended well. Raises SideFailed where it is none, SideRefused for a wrong clock."""
        try:
            run = _RunFile.model_validate_json((out / RUN_FILE).read_bytes())
        except (OSError, ValidationError):
            raise SideFailed(side, "crash", f"it left no {RUN_FILE} that can be read") from None
        counted = sum(run.step_seconds)
        if len(run.step_seconds) != steps or not all(0 < one < math.inf for one in run.step_seconds):
            raise SideFailed(side, "crash", f"{len(run.step_seconds)} steps are timed in its {RUN_FILE}, not {steps}")
        if counted > CLOCK_TOLERANCE * ended.seconds:
            raise SideRefused(side.name, f": {counted:.1f} s of steps in {ended.seconds:.1f} s by the lab's clock")
        return run

    def _execute(self, side: Side, arguments: list[str], seconds: float) -> tuple[CommandEnd, Path]:
        out = self.folder / f"side-{side.name}"
        shutil.rmtree(out, ignore_errors=True)
        writable_folder(out, "run folder")
        command = [*self._command(side), "--out", str(out), *arguments]
        return execute(command, side.folder, out, seconds), out

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


def _rate(run: _RunFile) -> float:
    """Tokens per second."""
    return throughput(run.step_seconds, run.config.total_batch_tokens)[0] or 0.0


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
