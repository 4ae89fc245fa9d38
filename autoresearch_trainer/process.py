"""Settings of the whole process that need no framework: allocator, garbage collector, signals."""

import ctypes
import gc
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from autoresearch_trainer import control_group
from autoresearch_trainer.errors import Interrupted

# mallopt's parameter numbers (malloc.h of glibc).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_PERTURB = -1, -4, -6
_TRIM_NEVER = 2**31 - 1
_GC_INTERVAL = 5000


def keep_freed_memory() -> str:
    """Make glibc's malloc keep freed memory instead of giving it back; returns what is in force.

    By default every buffer above the mmap threshold (32 MiB at most, however it is set) is mapped and unmapped anew,
    and its page faults cost more than the arithmetic on it. So no buffer gets a mapping of its own, and the heap is
    never trimmed. The price is that the process keeps its peak.
    """
    if platform.libc_ver()[0] != "glibc":
        return "system default"
    mallopt = ctypes.CDLL(None).mallopt
    if mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _TRIM_NEVER):
        return "glibc, freed memory kept (mmap_max=0, trim_threshold=2GiB)"
    return "glibc default (mallopt refused)"


def fill_fresh_memory(pattern: int) -> None:
    """Have glibc's malloc fill every block that it hands out from now on with that byte, so that a result that nobody
    computed cannot look right. Other C libraries stay as they are."""
    if platform.libc_ver()[0] == "glibc":
        # The library stores the complement: what it is given is what freed blocks are filled with.
        ctypes.CDLL(None).mallopt(_M_PERTURB, pattern ^ 0xFF)


def usable_cores() -> int:
    """Physical cores, limited by the CPU affinity and by the control groups' quota."""
    limits = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = control_group.processors()
    return min(limits) if quota is None else max(1, min(*limits, int(quota)))


def resident_peak_mb() -> float:
    """Highest resident memory of this process so far in MiB."""
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def process_seconds() -> float:
    """Wall time since this process was started, imports included."""
    return time.time() - psutil.Process().create_time()


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class QuietCollector:
    """Python's garbage collector, kept out of the steps: a collection can stall one for hundreds of milliseconds."""

    def after_step(self, step: int) -> None:
        """Call with the index of the step that ended: freeze what exists after the first, collect rarely later."""
        if step == 0:
            gc.collect()
            gc.freeze()
            gc.disable()
        elif (step + 1) % _GC_INTERVAL == 0:
            gc.collect()

    def __enter__(self) -> "QuietCollector":
        self._enabled = gc.isenabled()
        return self

    def __exit__(self, *exc: object) -> None:
        gc.unfreeze()
        if self._enabled:
            gc.enable()


class StopSignal:
    """Remembers that SIGINT or SIGTERM arrived, for the training loop to look at; a second one acts at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def raise_if_set(self, step: int) -> None:
        """Raises Interrupted if a signal arrived."""
        if self.signum is not None:
            raise Interrupted(self.signum, step)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Catch SIGINT and SIGTERM for the duration (in the main thread; elsewhere nothing is caught)."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def remember(signum: int, frame: FrameType | None) -> None:
        stop.signum = signum
        restore()

    for number in previous:
        signal.signal(number, remember)
    try:
        yield stop
    finally:
        restore()
