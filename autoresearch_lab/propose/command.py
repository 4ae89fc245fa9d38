"""A proposer that is a command of the user's: a coding agent, a script, a search."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common.files import write_atomic
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.propose.attempts import Attempt, Budget
from autoresearch_lab.sandbox.command import last_line, run_within
from autoresearch_lab.workspace import Workspace

HISTORY, LOG = "attempts.json", "proposer.log"
# What the shell's status says of the command itself, not of what it did.
CANNOT_RUN, NOT_FOUND = 126, 127


class CannotStart(LabError):
    """The command does not run at all, in no workspace."""


@dataclass(frozen=True)
class Command:
    """A line for the shell. It runs in the workspace's folder with the user's rights and finds

    - in KERNEL_LAB_WORKSPACE the folder, in KERNEL_LAB_TARGET the target, in KERNEL_LAB_CHECKOUT the lab's own folder;
    - in attempts.json what came of the earlier attempts, and what is left of the budget;
    - in README.md and program.md (of the checkout) what is wanted.

    It changes kernel.py and native sources beside it, and ends. Where it leaves the kernel as it was, it has nothing
    more to propose.

    Raises CannotStart where the shell cannot run it.
    """

    line: str

    def __call__(self, workspace: Workspace, attempts: list[Attempt], budget: Budget) -> str | None:
        left = {"attempts": budget.attempts - len(attempts), "seconds": budget.seconds}
        told = {"target": workspace.target.name, "left": left, "attempts": [one.plain() for one in attempts]}
        write_atomic(workspace.folder / HISTORY, json.dumps(told, indent=1) + "\n")
        variables = {
            "KERNEL_LAB_WORKSPACE": str(workspace.folder),
            "KERNEL_LAB_TARGET": workspace.target.name,
            "KERNEL_LAB_CHECKOUT": str(CHECKOUT),
        }
        log = workspace.folder / LOG
        code = run_line(self.line, "--proposer", workspace.folder, variables, log, budget.seconds)
        if code is None or code == 0:
            return None  # what it has written when its time is over is judged all the same
        return f"the proposer ended with status {code}; see {log}"


def run_line(
    line: str, option: str, folder: Path, variables: Mapping[str, str], log: Path, seconds: float
) -> int | None:
    """Run a line for the shell in `folder`, for at most so many seconds; what it prints is appended to `log`. Returns
    its exit code, None where its time ran out. Nothing that it started goes on afterwards, while the lab measures.

    Raises:
        CannotStart: the shell cannot run what `option` says.
    """
    with open(log, "ab") as output:
        command = ["/bin/sh", "-c", line]
        code = run_within(seconds, command, folder, {**os.environ, **variables}, output, subprocess.STDOUT)
    if code in (CANNOT_RUN, NOT_FOUND):
        raise CannotStart(f"{option}: {line!r} cannot be started: {last_line(log) or f'status {code}'}")
    return code
