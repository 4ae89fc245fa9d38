"""A command of a side, in a process of its own below a supervisor, which imports the side's code alone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common.compiler import cache_root
from autoresearch_lab.sandbox.command import last_line, run_within
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
    left_out = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    inherited = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**inherited, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(cache_root() / "bytecode")}


def execute(command: Sequence[str], folder: Path, out: Path, seconds: float) -> CommandEnd:
    """Run a command in the side's `folder`, for at most so many seconds; what it prints goes to files in `out`."""
    started, load = time.monotonic(), ForeignLoad(children=True)
    log = out / "stderr.log"
    with open(out / "stdout.log", "wb") as stdout, open(log, "wb") as stderr:
        code = run_within(seconds, command, folder, side_environment(folder), stdout, stderr)
    return CommandEnd(code, time.monotonic() - started, load.share(), last_line(log))
