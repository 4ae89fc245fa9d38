"""A confined job of the lab's own, which does nothing: what is not enforced on it is enforced on no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoresearch_lab.sandbox.limits import GIB, Limits
from autoresearch_lab.sandbox.parent import run_job
from autoresearch_lab.sandbox.protocol import not_enforced

# As large as those of a verification are, all of them set.
_LIMITS = Limits(seconds=60.0, cpu_seconds=60, memory_bytes=24 * GIB, file_bytes=GIB, processes=512, confined=True)


def not_enforced_here(folder: Path) -> list[str]:
    """Names of what of the confinement does not hold on this system; takes about half a second. folder: for the job.

    Raises:
        JobFailed: not even this job runs.
    """
    found: list[str] = []
    package = __name__.rpartition(".")[0]
    run_job(
        package, "nothing", {}, run_dir=folder, limits=_LIMITS,
        on_progress=lambda message: found.extend(not_enforced(message)),
    )  # fmt: skip
    return found


def _nothing(args: Mapping[str, Any], run_dir: Path, report: Callable[..., None]) -> dict[str, Any]:
    return {}


JOBS = {"nothing": _nothing}
