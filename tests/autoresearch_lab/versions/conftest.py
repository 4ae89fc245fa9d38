"""A lab in a small git repository whose train.py answers at once, with a speed and a quality that its files plant."""

import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_data.dataset import Manifest
from autoresearch_data.tokens import SplitSummary
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.versions import training
from autoresearch_lab.versions.evaluation import Evaluated
from autoresearch_lab.versions.process import CommandEnd
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.run import Versions, trial
from autoresearch_lab.versions.sides import LOCKED, open_side
from autoresearch_lab.versions.turns import Pause

TOKENS = 2048
STEP_SECONDS = 0.1
STOPPED, PAUSES = (15, 40), [2.0, 2.1]


def git(repository: Path, *arguments: str) -> str:
    named = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(["git", *named, *arguments], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write_dataset(folder: Path, train: str = "a", val: str = "b", tokenizer: str = "c") -> None:
    splits = {name: SplitSummary(9, 9, 9, 9, 64 * one) for name, one in (("train", train), ("val", val))}
    manifest = Manifest(folder.name, "stub", {}, splits, 8192, 64 * tokenizer, {})
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(manifest.to_json()))


class Stub:
    """Plays the processes. A side's plan is plan.json of its tree, laid over by what --set says: bpb (its quality at
    100 steps), speed (relative), fails, outside (seconds beyond its steps). asked: (side's folder, steps) of every
    training; in_turns: how many of these took turns. dies_after: so many of these, and the lab is "killed". load: what
    others use of the cores."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.dies_after: int | None = None
        self.load, self.noise = 0.02, 0.01
        self.reference_trains, self.in_turns = True, 0

    def execute(self, command, folder, out, seconds):
        words = command[2:]
        if "--smoke" in words:
            return CommandEnd(0 if self.reference_trains else 1, 1.0, 0.0, "no space left on device")
        plan = json.loads((folder / "plan.json").read_text())
        plan |= dict(word.split("=") for at, word in enumerate(words) if words[at - 1] == "--set")
        if plan.get("refuses"):
            return CommandEnd(2, 0.1, 0.0, "cannot set 'nonsense'")
        config = {"total_batch_tokens": int(plan.get("tokens", TOKENS)), "batch_size": 8, "eval_batch_size": 8}
        if "--print-config" in words:
            choice = {"name": "memory", "value": "about 0.5 GiB", "why": "estimated"}
            (out / "stdout.log").write_text(json.dumps({"config": config, "choices": [choice]}))
            return CommandEnd(0, 0.1, 0.0, "")
        option = dict(zip(words, words[1:], strict=False))
        steps, seed = int(option["--steps"]), int(option["--seed"])
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            raise KeyboardInterrupt
        self.asked.append((folder.name, steps))
        if plan.get("fails"):
            return self.fail(plan["fails"], out)
        noise = np.random.default_rng([seed, steps, len(self.asked)]).normal(0, self.noise)
        speed = float(plan.get("speed", 1.0)) * math.exp(noise)
        record = {"config": config, "step_seconds": [STEP_SECONDS / speed] * steps, "summary": {"peak_vram_mb": 512.0}}
        (out / "run.json").write_text(json.dumps(record))
        rng = np.random.default_rng([seed, int(1e4 * float(plan["bpb"]))])
        bpb = float(plan["bpb"]) - 0.25 * math.log(steps / 100) + 0.006 * math.sin(seed) + rng.normal(0, 0.0005)
        (out / "weights.safetensors").write_text(json.dumps(bpb))
        return CommandEnd(0, steps * STEP_SECONDS / speed + 1 + float(plan.get("outside", 0)), self.load, "")

    def execute_in_turns(self, commands, folders, outs, seconds, turn):
        """Each is stopped twice, with a slow step after it; what ends without success ends the others."""
        pauses = [Pause(at + 0.5, seconds) for at, seconds in zip(STOPPED, PAUSES, strict=True)]
        ends = []
        self.in_turns += len(commands)
        for command, folder, out in zip(commands, folders, outs, strict=True):
            ends.append((self.execute(command, folder, out, seconds), pauses))
            if ends[-1][0].code != 0:
                break
            record = json.loads((out / "run.json").read_text())
            for step, pause in zip(STOPPED, PAUSES, strict=True):
                record["step_seconds"][step] += pause
                record["step_seconds"][step + 1] *= 3
            (out / "run.json").write_text(json.dumps(record))
            lines = [{"event": "step", "time": step, "step": step, "progress": 0, "loss": 1, "tokens_per_second": 1,
                      "seconds": 1} for step in range(0, 45, 5)]  # fmt: skip
            (out / "progress.jsonl").write_text(
                "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
            )
        left = len(commands) - len(ends)
        return [*ends, *[(CommandEnd(None, 1.0, 0.0, ""), [])] * left]

    @staticmethod
    def fail(how, out):
        errors = {"diverged": "loss is nan at step 3", "memory": "out of memory with a batch of 8"}
        if how in errors:
            (out / "run.json").write_text(json.dumps({"status": "failed", "error": errors[how]}))
        return CommandEnd({"hung": None, "killed": -9}.get(how, 1), 7.0, 0.0, "NameError: name 'x' is not defined")

    @staticmethod
    def evaluate(side, weights, base, tokens, engine):
        return Evaluated(json.loads(weights.read_text()), 0.5, 1e-6)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """`here.commit(**plan)` commits a version; `here.trial(a, b)` tries two and returns the record."""
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    stub = Stub()
    monkeypatch.setattr(training, "execute", stub.execute)
    monkeypatch.setattr(training, "execute_in_turns", stub.execute_in_turns)
    monkeypatch.setattr(training, "evaluate", stub.evaluate)
    for path in LOCKED:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes((CHECKOUT / path).read_bytes())
    (tmp_path / ".gitignore").write_text("/data/\n/results/\n*results.tsv*\n")
    (tmp_path / "train.py").write_text("")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    write_dataset(tmp_path / "data" / "stdlib")
    context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"torch": "2", "lab": "x", "key": "s1"})
    root = Root(tmp_path)
    found = SimpleNamespace(root=root, path=tmp_path, stub=stub, context=context, lab=Lab.of(context, root))

    def commit(**plan):
        (tmp_path / "plan.json").write_text(json.dumps({"bpb": 2.0, **plan}))
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "a version")
        return git(tmp_path, "rev-parse", "--short", "HEAD")

    def run(a, b, *, rule=None, minutes=60.0, tell=lambda line: None):
        sides = open_side("a", a, "stdlib", root), open_side("b", b, "stdlib", root)
        versions = Versions(Lab.of(context, root), *sides, "cpu-nano", rule or TrialRule())
        return trial(versions, minutes, tell=tell)

    found.commit, found.trial = commit, run
    return found
