"""Runs a command of others for a limited time: nothing that it started goes on afterwards, while the lab measures."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.sandbox.supervisor import below


def start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes] | int
) -> subprocess.Popen:
    """A command in `folder`, below a supervisor, that leads a group of its own; to be ended by `end_all`. stderr: a
    file, or subprocess.STDOUT for the same."""
    return subprocess.Popen(
        below(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def run_within(
    seconds: float,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes] | int,
) -> int | None:
    """The exit code of a command as `start` has it; None where it had no end within so many seconds."""
    process = start(command, folder, environment, stdout, stderr)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_all(process)


def last_line(path: Path) -> str:
    """The last line of a log that says something; empty where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip().removeprefix("error: ") for line in reversed(lines) if line.strip()), "")
