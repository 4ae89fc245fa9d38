"""Progress of long work on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from autoresearch_lab.status import StatusFile

LINE_SECONDS = 10.0


# A job's message as it is shown: {"stage": str, "done": number, "total": number}, each of which may be missing.
Message = Mapping[str, Any]


@contextmanager
def progress(log: Console, status: StatusFile | None = None) -> Iterator[Callable[[Message], None]]:
    """Yield a function that takes a job's messages; those without a stage are ignored, numbers are shown whole.
    status: what else hears of them, and says what the stages are a part of."""
    status = status or StatusFile("")
    if not log.is_terminal:
        yield _lines(log, status)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task("starting", total=None, count="")

        def show(message: Message) -> None:
            status.stage(message)
            if message.get("stage") is not None:
                done, total = message.get("done"), message.get("total")
                bar.update(task, description=message["stage"], completed=done or 0, total=total, count=_count(message))

        yield show


def _lines(log: Console, status: StatusFile) -> Callable[[Message], None]:
    """A line now and then, so that a log shows that the work goes on without drowning in stages:
    `   bench rms_norm=cpp_fused: warm-up (3 of 8)`."""
    last = -LINE_SECONDS

    def show(message: Message) -> None:
        nonlocal last
        status.stage(message)
        if message.get("stage") is None or time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        about, count = status.now.about, _count(message).replace("/", " of ")
        line = f"{about}: " if about else ""
        log.print(f"   {line}{message['stage']}" + (f" ({count})" if count else ""), markup=False, soft_wrap=True)

    return show


def _count(message: Message) -> str:
    done, total = message.get("done"), message.get("total")
    return f"{round(done)}/{round(total)}" if done is not None and total is not None else ""
