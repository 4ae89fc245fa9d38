"""Everything that only an Apple GPU can show about the Metal kernels, in one go: `make mac`.

Each step is a command of its own; a step that fails does not keep the next ones from running.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.hardware import has_apple_gpu
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import Record

# Runs a command, its output going where ours goes, and returns its exit code.
Execute = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Step:
    """One command. negative: exit code 1 may be an answer (a kernel that is not faster), not only a failure."""

    name: str
    command: tuple[str, ...]
    negative: bool = False


@dataclass(frozen=True)
class Done:
    """How a step ended: "ok", "negative" or "failed"."""

    name: str
    command: str
    exit_code: int
    state: str


def execute(command: Sequence[str]) -> int:
    """The real `Execute`."""
    return subprocess.run(list(command), cwd=CHECKOUT).returncode


def require_metal() -> None:
    """Raises LabError where there is no Apple GPU."""
    if not has_apple_gpu():
        raise LabError("mac: there is no Metal here: it takes an Apple GPU (docs/mac.md); nothing was run")


def metal_kernels(catalog: Mapping[str, Target]) -> list[Kernel]:
    """Every kernel of the catalogue that is written in Metal."""
    return [kernel for target in catalog.values() for kernel in target.kernels if kernel.language == "metal"]


def plan(kernels: Sequence[Kernel], root: Root, preset: str, dataset: str, bench_seconds: float) -> list[Step]:
    """The steps in order. The profile comes before the kernels, so that they are judged on calls that it captured."""
    lab = (sys.executable, str(CHECKOUT / "kernel-lab.py"), "--root", str(root.path), "--engine", "mlx")
    profile = str(root.results / "mac-profile.json")
    data = ("--corpus", dataset, "--data-dir", str(root.data(dataset).parent))
    steps = [
        Step("doctor", (*lab, "doctor")),
        Step("tests", (sys.executable, "-m", "pytest")),
        Step("data", (sys.executable, str(CHECKOUT / "prepare.py"), *data)),
        Step("profile", (*lab, "profile", "--preset", preset, "--dataset", dataset, "--output", profile)),
    ]
    for kernel in kernels:
        chosen = (f"{kernel.target}={kernel.name}",)
        steps.append(Step(f"verify {kernel.target}", (*lab, "verify", *chosen)))
        budget = ("--budget", f"{bench_seconds:g}")
        steps.append(Step(f"bench {kernel.target}", (*lab, "bench", *chosen, *budget), negative=True))
    top = ("--top-k", "20", "--bench-seconds", f"{bench_seconds:g}")
    steps.append(Step("orchestrate", (*lab, "orchestrate", "--profile", profile, *top), negative=True))
    steps.append(Step("report", (*lab, "report")))
    return steps


def run(steps: Sequence[Step], say: Callable[[str], None], execute: Execute = execute) -> list[Done]:
    """Run the steps one after the other; `say` gets a line before each."""
    done = []
    for number, step in enumerate(steps, start=1):
        say(f"[{number}/{len(steps)}] {step.name}: {' '.join(_short(part) for part in step.command)}")
        code = execute(step.command)
        state = "ok" if code == 0 else "negative" if code == 1 and step.negative else "failed"
        done.append(Done(step.name, " ".join(step.command), code, state))
    return done


def record(done: Sequence[Done], lab: Lab, settings: Mapping[str, Any]) -> Record:
    """A note in the ledger that says what was run and how it ended."""
    results = {"steps": [asdict(step) for step in done]}
    return lab.ledger.append("note", **lab.context.fields(), settings={"event": "mac", **settings}, results=results)


def _short(part: str) -> str:
    """A path of the checkout as people would type it."""
    path = Path(part)
    return path.relative_to(CHECKOUT).as_posix() if path.is_relative_to(CHECKOUT) and path != CHECKOUT else part
