"""Progress of a preparation: bars on a terminal, plain lines in a pipe. All of it goes to stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 10.0


def amount(count: float, unit: str) -> str:
    """`count` for a reader: `31.5 MB` for bytes, `63,621 documents` for anything else."""
    if unit != "bytes":
        return f"{int(count):,} {unit}"
    for scale, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.1f} {name}"
    return f"{int(count)} bytes"


def note_nulls(count: int, where: str, reporter: Reporter) -> None:
    """Say how many texts were null, and so left out, where any was."""
    if count:
        reporter.note(f"{where}: left out {count:,} document{'s' if count > 1 else ''} whose text is null")


class Stage:
    """One counted piece of work. `advance` may be called from any thread."""

    def __init__(self, title: str, total: float | None, unit: str, stream: TextIO, bars: Progress | None) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0.0
        self._stream, self._bars = stream, bars
        self._lock = threading.Lock()
        self._started = self._last_line = time.monotonic()
        self._task = bars.add_task(title, total=total, amount="") if bars else None

    def advance(self, count: float) -> None:
        with self._lock:
            self.done += count
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self.done, amount=amount(self.done, self.unit))
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of = f" of {amount(self.total, self.unit)}" if self.total else ""
            print(f"{self.title}: {amount(self.done, self.unit)}{of}", file=self._stream, flush=True)

    def grow(self, count: float) -> None:
        """Raise the total, where it becomes known bit by bit."""
        self.total = (self.total or 0) + count
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, total=self.total)

    def finish(self) -> None:
        if self._bars is not None and self._task is not None:
            total = self.total if self.total is not None else max(self.done, 1)
            self._bars.update(self._task, total=total, completed=total, amount=amount(self.done, self.unit))
        else:
            seconds = time.monotonic() - self._started
            line = f"{self.title}: {amount(self.done, self.unit)} in {seconds:.1f} s"
            print(line, file=self._stream, flush=True)


class Reporter:
    """Where stages and notes are shown. Without a stream nothing is shown."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bars: Progress | None = None

    @classmethod
    @contextmanager
    def on(cls, stream: TextIO | None = None) -> Iterator[Reporter]:
        """A reporter on `stream` (stderr by default), with bars if that is a terminal."""
        reporter = cls(stream or sys.stderr)
        console = Console(file=stream or sys.stderr)
        if not console.is_terminal:
            yield reporter
            return
        title, count = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[amount]}")
        columns = (title, BarColumn(), TaskProgressColumn(), count)
        with Progress(*columns, TimeElapsedColumn(), console=console) as reporter._bars:
            yield reporter

    @contextmanager
    def stage(self, title: str, total: float | None = None, unit: str = "documents") -> Iterator[Stage]:
        """A stage that is finished when the block ends well."""
        if self._stream is None:
            yield _SilentStage(title, total, unit)
            return
        stage = Stage(title, total, unit, self._stream, self._bars)
        yield stage
        stage.finish()

    def note(self, text: str) -> None:
        """Show one line."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)


class _SilentStage(Stage):
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0.0

    def advance(self, count: float) -> None:
        self.done += count

    def grow(self, count: float) -> None:
        self.total = (self.total or 0) + count
