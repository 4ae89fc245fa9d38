"""Trainings of shapes: train.py as anybody starts it, in a process of its own; each is kept for a fit that goes on."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.engine import Engine
from autoresearch_lab.paths import CHECKOUT, Root, writable_folder
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.fit import FitRun, FitStage
from autoresearch_lab.versions.process import execute
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.loop import RUN_FILE, WEIGHTS_FILE

BAD_INPUT = 2
# A process may take that long beside its training: compiling on a busy machine takes minutes.
START_SECONDS = 900.0


class ShapeFailed(Exception):
    """A shape does not train here. code: of train.py's exit."""

    def __init__(self, why: str, code: int | None) -> None:
        super().__init__(why)
        self.code = code


class EvaluatedRung(BaseModel):
    """Of `train.py --eval-rungs`: one rung of one model."""

    tokens: int
    val_bpb: float
    error: float
    standard_error: float | None
    seconds: float


class _Rungs(BaseModel):
    rungs: dict[str, EvaluatedRung]


class _Parameters(BaseModel):
    total: int


class _FitModel(BaseModel):
    parameters: _Parameters


class _FitConfig(BaseModel):
    total_batch_tokens: int
    compile: bool


class _Compiled(BaseModel):
    seconds: float


class _FitSummary(BaseModel):
    val_bpb: float
    num_steps: int
    tokens_per_second: float
    peak_vram_mb: float


class _FitRunFile(BaseModel):
    """Of run.json."""

    config: _FitConfig
    model: _FitModel
    summary: _FitSummary
    compile_cache: _Compiled | None = None


@dataclass
class ShapeTrainer:
    """What trains shapes: where, on which data, and what is kept of it. identity: what a training depends on besides
    its shape, length and seed; foreign_limit: with more of the cores used by others a training is not kept."""

    root: Root
    engine: Engine
    dataset: Path
    folder: Path
    cache: Cache
    identity: str
    foreign_limit: float
    listen: Report = lambda message: None
    reused: int = 0

    def train(self, preset: str, seed: int, stage: int, length: FitStage, about: str) -> FitRun:
        """A training of that length; taken over where there is one. What it leaves stays until `forget`.

        Raises:
            ShapeFailed: it does not train, or leaves nothing to read.
        """
        seconds = length.seconds
        key = self._key(preset=preset, seconds=seconds, seed=seed, automatic=length.automatic)
        known = self.cache.get(key)
        if known is not None:
            self.reused += 1
            return FitRun(**{**known, "stage": stage})
        self.listen({"stage": about})
        out = writable_folder(self._place(preset, seed), "run folder")
        arguments = ["--preset", preset, "--time-budget", str(seconds), "--seed", str(seed), "--eval", "reference"]
        arguments += ["--compile", "auto" if length.automatic else "off", "--no-checkpoint", "--save-weights"]
        arguments += ["--results", str(self.folder / "results.tsv")]
        ended = execute(self._command(out, *arguments), CHECKOUT, out, START_SECONDS + 3 * seconds)
        try:
            if ended.code != 0:
                raise ShapeFailed(ended.error or f"exit code {ended.code}", ended.code)
            run = _FitRunFile.model_validate_json((out / RUN_FILE).read_bytes())
        except (OSError, ValidationError):
            raise ShapeFailed(f"it left no {RUN_FILE} that can be read", ended.code) from None
        found = FitRun(
            preset=preset,
            stage=stage,
            seed=seed,
            automatic=length.automatic,
            compiled=run.config.compile,
            seconds=seconds,
            steps=run.summary.num_steps,
            tokens=run.summary.num_steps * run.config.total_batch_tokens,
            tokens_per_step=run.config.total_batch_tokens,
            tokens_per_second=run.summary.tokens_per_second,
            val_bpb=run.summary.val_bpb,
            memory_mb=run.summary.peak_vram_mb,
            parameters=run.model.parameters.total,
            wall_seconds=ended.seconds,
            compile_seconds=run.compile_cache.seconds if run.compile_cache else 0.0,
            foreign_share=ended.foreign_share,
        )
        if ended.foreign_share <= self.foreign_limit:
            self.cache.put(key, found.plain())
        return found

    def rungs(self, run: FitRun) -> dict[str, EvaluatedRung] | None:
        """Every rung of the evaluation for the weights that a training left; None where they are gone, or cannot be
        evaluated."""
        key = self._key(rungs=run.preset, seconds=run.seconds, seed=run.seed)
        known = self.cache.get(key)
        if known is not None:
            return _Rungs.model_validate(known).rungs
        out = self._place(run.preset, run.seed)
        if not (out / WEIGHTS_FILE).is_file():
            return None
        self.listen({"stage": f"{run.preset}: every rung of the evaluation"})
        ended = execute(
            self._command(out, "--preset", run.preset, "--eval-rungs", str(out / WEIGHTS_FILE), "--json"),
            CHECKOUT, out, START_SECONDS,
        )  # fmt: skip
        try:
            found = _Rungs.model_validate_json((out / "stdout.log").read_bytes())
        except (OSError, ValidationError):
            return None
        if ended.foreign_share <= self.foreign_limit:
            self.cache.put(key, found.model_dump())
        return found.rungs

    def forget(self, preset: str, seed: int) -> None:
        """Remove what a training left."""
        shutil.rmtree(self._place(preset, seed), ignore_errors=True)

    def _place(self, preset: str, seed: int) -> Path:
        return self.folder / f"{preset}-{seed}"

    def _key(self, **what: object) -> Facts:
        return {"what": "fit", "identity": self.identity, **what}

    def _command(self, out: Path, *arguments: str) -> list[str]:
        where = ["--root", str(self.root.path), "--engine", self.engine.name, "--dataset", self.dataset.name]
        where += ["--data-dir", str(self.dataset.parent), "--out", str(out)]
        return [sys.executable, str(CHECKOUT / "train.py"), *where, *arguments]
