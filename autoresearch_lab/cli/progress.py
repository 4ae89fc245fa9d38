"""Progress of long work on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0


# A job's message as it is shown: {"stage": str, "done": number, "total": number}, each of which may be missing.
Message = Mapping[str, Any]


@contextmanager
def progress(log: Console) -> Iterator[Callable[[Message], None]]:
    """Yield a function that takes a job's messages; those without a stage are ignored, numbers are shown whole."""
    if not log.is_terminal:
        yield _lines(log)
        return
    plain = partial(TextColumn, markup=False)
    columns = (plain("{task.description}"), BarColumn(), plain("{task.fields[count]}"), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task("starting", total=None, count="")

        def show(message: Message) -> None:
            if message.get("stage") is not None:
                done, total = message.get("done"), message.get("total")
                bar.update(task, description=message["stage"], completed=done or 0, total=total, count=_count(message))

        yield show


def _lines(log: Console) -> Callable[[Message], None]:
    """A line now and then, so that a log shows that the work goes on without drowning in stages."""
    last = -LINE_SECONDS

    def show(message: Message) -> None:
        nonlocal last
        if message.get("stage") is None or time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        log.print(f"   {message['stage']} {_count(message)}".rstrip() + " ...")

    return show


def _count(message: Message) -> str:
    done, total = message.get("done"), message.get("total")
    return f"{round(done)}/{round(total)}" if done is not None and total is not None else ""
