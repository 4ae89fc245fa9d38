"""Runs one command of a campaign within its time, and ends everything that it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from autoresearch_lab.campaign.steps import SaidNo, StepFailed, TimeBox
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT, PROGRAM, python_path
from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.sandbox.supervisor import below

TAIL = 600


@dataclass(frozen=True)
class Completed:
    """code: exit code; None = it ran out of time. out, err: what it printed, where that was kept."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def reason(self) -> str:
        """Why it failed, in a line: its own error message, or the end of what it printed."""
        if self.code is None:
            return f"out of time after {self.seconds:.0f} s"
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("error:", "E  ")) or "Error" in line]
        return ": ".join([f"exit code {self.code}", *(line[:TAIL] for line in (errors or lines)[-1:])])

    @property
    def printed(self) -> str:
        """All that it printed."""
        return "\n".join(filter(None, (self.out, self.err)))

    def json(self) -> Any:
        """What it printed as JSON. Raises StepFailed where it printed none."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise StepFailed(self.reason, self.code, self.printed) from None

    def require(self, negative: bool = False) -> Completed:
        """Itself, where it ended well. negative: exit code 1 is an answer, not a failure.

        Raises:
            SaidNo, StepFailed: it did not.
        """
        if self.code == 1 and negative:
            raise SaidNo("")
        if self.code != 0:
            raise StepFailed(self.reason, self.code, self.printed)
        return self


def run_command(
    command: Sequence[str], box: TimeBox, variables: Mapping[str, str] | None = None, shown: TextIO | None = None
) -> Completed:
    """Run a command from the checkout within its time. variables: more of its environment. shown: where it prints, what
    of it goes to stdout; None: what it prints is kept."""
    if box.left < 1.0:
        return Completed(None, "", "", 0.0)
    began = time.monotonic()
    process = subprocess.Popen(
        below(command),
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": python_path(), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=shown or subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    code: int | None
    try:
        out, err = process.communicate(timeout=None if box.left == float("inf") else max(0.1, box.left))
        code = process.returncode
    except subprocess.TimeoutExpired:
        end_all(process)  # the lab's verbs end their own children when they are asked to end
        out, err = process.communicate()
        code = None
    except BaseException:
        end_all(process)
        raise
    return Completed(code, out or "", err or "", time.monotonic() - began)


def python(*arguments: str) -> tuple[str, ...]:
    """A command of this Python."""
    return (sys.executable, *arguments)


def verb(lab: Lab, engine: str, *words: str) -> tuple[str, ...]:
    """The command of one of the lab's verbs, in this lab's folder."""
    return python(str(CHECKOUT / PROGRAM), "--root", str(lab.root.path), "--engine", engine, *words)


def subject(kernel: Kernel) -> tuple[str, ...]:
    """How verbs are told their kernel."""
    return (label(kernel),)


def label(kernel: Kernel) -> str:
    """How people are told it."""
    return f"{kernel.target}={kernel.name}"
