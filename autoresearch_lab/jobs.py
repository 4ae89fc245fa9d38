"""The way to hand a job to an engine: its complaints about the request become bad input, the rest stays failure."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autoresearch_common.files import begun, left_over
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_trainer.jobs import Job, Progress, Report
from autoresearch_trainer.jobs.base import A, R

# The user has to change the request: preset, option, dataset, kernel or the compiler that it needs.
REFUSED = ("bad_input", "kernel")


def call(
    engine: Engine,
    job: Job[A, R],
    args: A,
    *,
    run_dir: Path,
    limits: Limits | None = None,
    variables: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> R:
    """Run a job of `engine` in a process of its own and return its answer.

    Raises:
        LabError: the engine refused the request; the message is the engine's own.
        JobFailed: the job crashed, hung, ran out of memory, raised anything else, or broke the protocol.
    """
    try:
        return engine.run(job, args, run_dir=run_dir, limits=limits, variables=variables, on_progress=on_progress)
    except JobFailed as failure:
        if failure.kind in REFUSED:
            raise LabError(failure.reason) from None
        raise


def in_background(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """Start a call in a thread that does not keep an interrupted process alive; the result waits and returns it."""
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = function(*args, **kwargs)
        except BaseException as error:  # handed to the caller below
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join()
        if "error" in box:
            raise box["error"]
        return box["value"]

    return result


def about(what: str, report: Report | None) -> Report | None:
    """`report` for messages of a job, to which is added whose work it is."""
    return None if report is None else lambda message: report({**message, "about": what})


# In a run folder while somebody works there; and what a bench's record names in it.
MARK, SAMPLES = ".running", "samples.json.gz"


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A run folder in which this process works while the block lasts. Those of processes that were killed go first;
    what is left after a failure, which tells why, is none of these.

    Raises:
        LabError: the folder cannot be written.
    """
    for mark in folder.parent.glob(f"*/{MARK}"):
        with suppress(OSError), left_over(mark):
            _clear(mark.parent)
    mark = writable_folder(folder, "run folder") / MARK
    try:
        with begun(mark, lambda: (writable_folder(folder, "run folder") / MARK).touch()):
            yield folder
    finally:
        mark.unlink(missing_ok=True)
        with suppress(OSError):  # where something was left
            folder.rmdir()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (MARK, SAMPLES):
            path.unlink()
    (folder / MARK).unlink()
    folder.rmdir()


@contextmanager
def run_folder(root: Root, job: str, identity: str | None = None) -> Iterator[Path]:
    """A run folder of its own; where a job failed it is kept, with its logs, else removed. identity: the same work has
    the same folder; None: a new one."""
    name = identity or f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    with running(root.runs / f"{job}-{name}") as folder:
        try:
            yield folder
        except LabFailure:
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
