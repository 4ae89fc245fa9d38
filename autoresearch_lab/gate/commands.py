"""Any two commands, timed in turns."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from autoresearch_common.reading import one_line
from autoresearch_lab.bench.rule import BUDGET_SECONDS, Rule
from autoresearch_lab.errors import LabError
from autoresearch_lab.gate.race import FAIL, Compared, Turns, race
from autoresearch_trainer.probe.load import ForeignLoad

# Of what a failed command printed, as much is looked at.
TAIL_BYTES = 4096


class CommandFailed(Exception):
    """A command ended with another exit code than 0, or could not be started."""


def compare_commands(
    base: str,
    head: str,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    rule: Rule | None = None,
    seed: int | None = None,
) -> Compared:
    """Is the command `head` faster than `base`, for sure? From start to exit, so what both do before and after counts.

    Each runs once first, untimed; a round then runs base, base again and head in a drawn order and in the reverse of
    it. Words are those of a shell, but no shell runs them. FAIL where one of them does.

    Raises:
        LabError: a command cannot be read as words.
    """
    words = [_words(base), _words(base), _words(head)]
    sides = ("base", "base", "head")

    def take(seed: int) -> Turns:
        order = np.random.default_rng(seed).permutation(len(words)).tolist()
        found, load = np.zeros((1, len(words))), ForeignLoad(children=True)
        for arm in [*order, *reversed(order)]:
            found[0, arm] += _seconds(words[arm], sides[arm]) / 2
        return Turns(found, load.since_last())

    try:
        for place in (0, 2):
            _seconds(words[place], sides[place])
        return race("command", take, rule or Rule(), budget_seconds, seed)
    except CommandFailed as error:
        return Compared("command", FAIL, str(error))


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LabError(f"cannot read the command {command!r}: {error}") from None
    if not words:
        raise LabError("a command is empty")
    return words


def _seconds(words: Sequence[str], side: str) -> float:
    """How long the command takes. What it leaves behind is ended with it, as after an interrupt.

    Raises:
        CommandFailed: it does not start, or its exit code is not 0.
    """
    with tempfile.TemporaryFile() as printed:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
            )
        except OSError as error:
            raise CommandFailed(f"{side}: {words[0]}: {error.strerror or error}") from None
        try:
            code = process.wait()
            seconds = time.perf_counter() - began
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            printed.seek(max(0, printed.tell() - TAIL_BYTES))
            last = printed.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise CommandFailed(f"{side}: exit code {code}{': ' + one_line(last[0], 300) if last else ''}")
    return seconds
