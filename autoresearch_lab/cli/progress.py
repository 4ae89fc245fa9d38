"""Progress of long work on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from autoresearch_lab.status import StatusFile

LINE_SECONDS = 10.0
# Tells such a line from a remark.
INDENT = "   "


# A job's message as it is shown: {"stage": str, "done": number, "total": number}, each of which may be missing; what
# hands it on adds "about", whose work it is, or "process" and "processes" in the place of the stage.
Message = Mapping[str, Any]


@contextmanager
def progress(log: Console, verb: str, status: StatusFile | None = None) -> Iterator[Callable[[Message], None]]:
    """Yield a function that takes a job's messages; those without a stage are ignored, numbers are shown whole.

    verb: whose work it is where a message does not say. status: is told the same.
    """
    status = status or StatusFile(verb)
    if not log.is_terminal:
        yield _lines(log, verb, status)
        return
    plain = partial(TextColumn, markup=False)
    columns = (plain("{task.description}"), BarColumn(), plain("{task.fields[count]}"), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task("starting", total=None, count="")

        def show(message: Message) -> None:
            if message.get("stage") is not None:
                _tell(status, message)
                done, total = _number(message.get("done")), _number(message.get("total"))
                words = _words(message, verb)
                bar.update(task, description=words, completed=done or 0, total=total, count=_count(message))

        yield show


def _lines(log: Console, verb: str, status: StatusFile) -> Callable[[Message], None]:
    """A line now and then, so that a log shows that the work goes on without drowning in stages."""
    last = -LINE_SECONDS

    def show(message: Message) -> None:
        nonlocal last
        if message.get("stage") is None:
            return
        _tell(status, message)
        if time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        count = _count(message)
        log.print(f"{INDENT}{_words(message, verb)}{', ' if count else ''}{count} ...", soft_wrap=True)

    return show


def _tell(status: StatusFile, message: Message) -> None:
    status.stage(_stage(message), message.get("about"), _number(message.get("done")), _number(message.get("total")))


def _words(message: Message, verb: str) -> str:
    """Whose work it is, and what is being done."""
    return f"{message.get('about', verb)}: {_stage(message)}"


def _stage(message: Message) -> str:
    if "processes" in message:
        return f"process {message['process']} of {message['processes']}"
    return str(message["stage"])


def _count(message: Message) -> str:
    """How far that is, as `3 of 20`; what has fractions are seconds."""
    done, total = _number(message.get("done")), _number(message.get("total"))
    if done is None or total is None:
        return ""
    return f"{round(done)} of {round(total)}{' s' if isinstance(total, float) else ''}"


def _number(value: object) -> float | None:
    """A job may send anything."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None
