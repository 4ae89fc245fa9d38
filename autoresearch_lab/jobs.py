"""The way to hand a job to an engine: its complaints about the request become bad input, the rest stays failure."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.parent import JobFailed

# Classes by which the engines say that the user has to change the request: bad preset, option, dataset or kernel.
BAD_INPUT = frozenset(
    {"ConfigError", "KernelError", "KernelChanged", "UnknownKernel", "CompilerMissing"}
    | {"DataError", "NoDataset", "CorruptDataset"}
)


def call(
    engine: Engine,
    job: str,
    args: dict[str, Any],
    *,
    run_dir: Path,
    limits: Limits | None = None,
    variables: Mapping[str, str] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run a job of `engine` in a process of its own and return its result.

    Raises:
        LabError: the engine refused the request; the message is the engine's own.
        JobFailed: the job crashed, hung, ran out of memory, raised anything else, or broke the protocol.
    """
    try:
        return engine.run(job, args, run_dir=run_dir, limits=limits, variables=variables, on_progress=on_progress)
    except JobFailed as failure:
        if failure.kind == "exception" and failure.exception in BAD_INPUT:
            prefix = f"{job}: {failure.exception}: "
            raise LabError(str(failure).removeprefix(prefix)) from None
        raise


@contextmanager
def run_folder(root: Root, job: str) -> Iterator[Path]:
    """A run folder of its own; where a job failed it is kept, with its logs, else removed."""
    folder = writable_folder(root.runs, "runs") / f"{job}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        yield folder
    except LabFailure:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
