"""A train.py that answers at once, with curves and speeds that are planted."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_lab.fit import training
from autoresearch_lab.fit.run import fit
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.base import Dataset
from autoresearch_lab.results.fit import FitSettings
from autoresearch_lab.versions.process import CommandEnd
from autoresearch_trainer.config import TrainConfig

START, COMPILING = 7.0, 25.0


class World:
    """Plays the processes. A shape's val_bpb is level + fall (tokens / 200,000)^-.2, with noise by its seed; levels:
    {shape: less than 1.0 is better}; speeds: {shape: tokens/s compiled}. fails: {shape: (exit code, error)}. asked:
    (shape, seconds, seed, --compile) of each training. dies_after: so many of these, and the lab is "killed"."""

    def __init__(self) -> None:
        self.levels: dict[str, float] = {}
        self.speeds: dict[str, float] = {}
        self.fails: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, int, int, str]] = []
        self.compiled: set[str] = set()
        self.dies_after: int | None = None
        self.noise, self.load, self.draw = 0.004, 0.02, 0

    def execute(self, command, folder, out, seconds):
        words = command[2:]
        given = dict(zip(words, words[1:], strict=False))
        name = given["--preset"]
        if "--eval-rungs" in words:
            error = {"cheap": 0.02 + len(name) * 1e-4, "reference": 0.003, "full": 0.0}
            rung = {"tokens": 1000, "val_bpb": 1.2, "standard_error": 0.01, "seconds": 4.0}
            (out / "stdout.log").write_text(json.dumps({"rungs": {k: {**rung, "error": v} for k, v in error.items()}}))
            return CommandEnd(0, 9.0, self.load, "")
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            raise KeyboardInterrupt
        length, seed, mode = int(given["--time-budget"]), int(given["--seed"]), given["--compile"]
        self.asked.append((name, length, seed, mode))
        if name in self.fails:
            return CommandEnd(self.fails[name][0], 5.0, 0.0, self.fails[name][1])
        config = TrainConfig.for_preset(name)
        size = sum((config.model.n_layer, config.model.n_embd))
        speed = self.speeds.get(name, 30_000.0) * (1.0 if mode == "auto" else 0.7)
        steps = int(speed * length / config.total_batch_tokens) + 1
        rng = np.random.default_rng([self.draw, seed, length, size, config.total_batch_tokens])
        bpb = self.levels.get(name, 1.0) + (steps * config.total_batch_tokens / 200_000) ** -0.2
        bpb += rng.normal(0, self.noise)
        made = 0.0 if mode == "off" else 2.0 if name in self.compiled else COMPILING
        if mode == "auto":
            self.compiled.add(name)
        record = {
            "config": {"total_batch_tokens": config.total_batch_tokens, "compile": mode == "auto"},
            "model": {"parameters": {"total": 12 * config.model.n_layer * config.model.n_embd**2}},
            "summary": {"val_bpb": bpb, "num_steps": steps, "tokens_per_second": speed, "peak_vram_mb": 900.0},
            "compile_cache": {"seconds": made} if mode == "auto" else None,
        }
        (out / "run.json").write_text(json.dumps(record))
        (out / "weights.safetensors").write_text("")
        return CommandEnd(0, length + START + made, self.load, "")


@pytest.fixture
def here(tmp_path, monkeypatch, context, root):
    """`here.fit(minutes)` returns the record of a fit in the planted `here.world`."""
    world = World()
    monkeypatch.setattr(training, "execute", world.execute)
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    found = SimpleNamespace(world=world, root=root, lab=Lab.of(context, root), told=[])

    def run(minutes=20.0, seed=42, foreign_limit=0.15):
        settings = FitSettings(
            preset="cpu-nano", dataset=Dataset(name="stdlib", fingerprint="f"), minutes=minutes, horizon=300.0,
            seed=seed, foreign_limit=foreign_limit,
        )  # fmt: skip
        return fit(Lab.of(context, root), settings, tell=found.told.append)

    found.fit = run
    return found
