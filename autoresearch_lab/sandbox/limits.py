"""What a child process may use, and which of it this system can enforce."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoresearch_lab.sandbox import attempts, user
from autoresearch_lab.sandbox.confine import confine
from autoresearch_lab.sandbox.supervisor import die_with_parent

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Limits of one job. `seconds` is wall time, `quiet_seconds` that between two messages; `cpu_seconds`,
    `memory_bytes` (address space), `file_bytes` and `processes` are set in the child by the system; None = not limited.

    `confined` jobs run code that is not trusted: they may write only to their run folder, read only what computing
    needs and the paths in `readable`, and have no network (see `confine`). gpu: an NVIDIA driver starts in the job.
    """

    seconds: float = 600.0
    quiet_seconds: float | None = None
    cpu_seconds: int | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None
    processes: int | None = None
    confined: bool = False
    readable: tuple[str, ...] = ()
    gpu: bool = False

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Limits:
        """From what `plain` gave, by way of JSON."""
        return cls(**{**plain, "readable": tuple(plain["readable"])})


def apply_in_child(limits: Limits, run_dir: Path, planted: Path | None = None) -> list[str]:
    """Set the system's limits on this process; returns the names of those that could not be set, or that are set and
    do not hold. planted: see `attempts.planted`; needed where the job is confined."""
    parent, as_root = os.getppid(), os.geteuid() == 0
    wanted = [
        # One second more until SIGKILL, which would look as if the system had sent it for want of memory.
        ("cpu_seconds", limits.cpu_seconds, resource.RLIMIT_CPU, 1),
        (attempts.FILE_SIZE, limits.file_bytes, resource.RLIMIT_FSIZE, 0),
        # macOS accepts a limit on the address space and ignores it.
        (attempts.ADDRESS_SPACE, limits.memory_bytes, resource.RLIMIT_AS if sys.platform == "linux" else None, 0),
    ]
    failed = []
    for name, value, what, beyond in wanted:
        if value is None:
            continue
        try:
            if what is None:
                raise OSError("not enforced by this system")
            _, hard = resource.getrlimit(what)
            ceiling = value + beyond if hard == resource.RLIM_INFINITY else min(value + beyond, hard)
            resource.setrlimit(what, (min(value, ceiling), ceiling))
        except (OSError, ValueError):
            failed.append(name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.confined:
        failed += confine(run_dir, limits.readable, limits.gpu)
        die_with_parent(parent)  # another user's process is no longer asked to
    failed += _limit_processes(limits.processes)
    if limits.confined and planted is not None and sys.platform == "linux":
        failed += attempts.succeeded(
            planted,
            run_dir,
            as_root=as_root,
            processes=limits.processes is not None,
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
        )
    return list(dict.fromkeys(failed))


def _limit_processes(more: int | None) -> list[str]:
    """Allow this user at most `more` processes and threads beyond those there are now, a user of this job alone `more`
    in all; root is never bound by it."""
    if more is None:
        return []
    if os.getuid() == 0 or sys.platform != "linux":
        return [attempts.PROCESSES]
    try:
        present = 0 if user.is_own() else _present()
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        wanted = present + more if hard == resource.RLIM_INFINITY else min(present + more, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))
    except (OSError, ValueError):
        return [attempts.PROCESSES]
    return []


def _present() -> int:
    return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
