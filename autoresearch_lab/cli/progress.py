"""Progress of long work on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0


@contextmanager
def progress(log: Console) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that takes a job's messages {"stage": str, "done": int, "total": int}; done and total may be
    missing, and messages without a stage are ignored."""
    if not log.is_terminal:
        yield _lines(log)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task("starting", total=None, count="")

        def show(message: dict[str, Any]) -> None:
            if "stage" not in message:
                return
            done, total = message.get("done"), message.get("total")
            count = f"{done}/{total}" if total is not None and done is not None else ""
            bar.update(task, description=message["stage"], completed=done or 0, total=total, count=count)

        yield show


def _lines(log: Console) -> Callable[[dict[str, Any]], None]:
    """A line now and then, so that a log shows that the work goes on without drowning in stages."""
    last = -LINE_SECONDS

    def show(message: dict[str, Any]) -> None:
        nonlocal last
        if message.get("stage") is None or time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        done, total = message.get("done"), message.get("total")
        count = f" {done}/{total}" if done is not None and total is not None else ""
        log.print(f"   {message['stage']}{count} ...")

    return show
