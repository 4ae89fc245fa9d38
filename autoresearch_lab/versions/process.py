"""A command of a side, in a process of its own below a supervisor, which imports the side's code alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common.compiler import cache_root
from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.sandbox.supervisor import below
from autoresearch_trainer.probe.load import ForeignLoad


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended. code: None where its time ran out; foreign_share: of the cores, used by others meanwhile;
    error: the last line that it wrote to stderr."""

    code: int | None
    seconds: float
    foreign_share: float
    error: str


def side_environment(folder: Path) -> dict[str, str]:
    """This process's, with the side's packages first. Its tree is read-only, so bytecode goes beside it."""
    left_out = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONHOME")
    inherited = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**inherited, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(cache_root() / "bytecode")}


def execute(command: Sequence[str], folder: Path, out: Path, seconds: float) -> CommandEnd:
    """Run a command in the side's `folder`, for at most so many seconds; what it prints goes to files in `out`."""
    started, load = time.monotonic(), ForeignLoad(children=True)
    log = out / "stderr.log"
    with open(out / "stdout.log", "wb") as stdout, open(log, "wb") as stderr:
        process = subprocess.Popen(
            below(command),
            cwd=folder,
            env=side_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_all(process)
    return CommandEnd(code, time.monotonic() - started, load.share(), last_line(log))


def last_line(path: Path) -> str:
    """The last line that says something; empty where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip().removeprefix("error: ") for line in reversed(lines) if line.strip()), "")
