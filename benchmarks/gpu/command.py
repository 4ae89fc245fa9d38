"""Runs one command of the suite within a time limit, and ends everything that it started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.sandbox.parent import signal_group
from benchmarks.gpu.setting import Setting

GRACE_SECONDS = 5.0
TAIL = 600


class PartFailed(Exception):
    """A part of the suite could not do its work; the message says why."""


@dataclass(frozen=True)
class Done:
    """code: exit code; None = it ran out of time."""

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
        return f"exit code {self.code}: {(errors or lines or ['no message'])[-1][:TAIL]}"

    def json(self) -> Any:
        """What it printed as JSON. Raises PartFailed where it printed none."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise PartFailed(self.reason) from None


def run(
    setting: Setting,
    arguments: Sequence[str],
    seconds: float,
    interpreted: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Run Python with `arguments` from the checkout for at most so many seconds. variables: more of its environment."""
    if seconds < 1.0:
        return Done(None, "", "", 0.0)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**setting.environment(interpreted), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    code: int | None
    try:
        out, err = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        # The lab's verbs end their own children on SIGTERM.
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        signal_group(process)
        out, err = process.communicate()
        code = None
    except BaseException:
        signal_group(process)
        process.wait()
        raise
    return Done(code, out, err, time.monotonic() - began)


def verb(
    setting: Setting, name: str, *options: str, seconds: float, variables: Mapping[str, str] | None = None
) -> Done:
    """A verb of the lab with --json."""
    where = ["--root", str(setting.root.path), "--engine", setting.engine]
    command = ["-m", "autoresearch_lab.cli.app", *where, name, *options, "--json"]
    return run(setting, command, seconds, variables=variables)
