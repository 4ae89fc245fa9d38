"""Settings of the whole process: allocator, threads, garbage collector, signals.

Every process that trains or times calls `prepare_process` first, so that whatever is compared shares its settings.
"""

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
from typing import Any

import psutil
import torch

from autoresearch_cuda.errors import Interrupted

# mallopt's parameter numbers (malloc.h of glibc).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_TRIM_NEVER = 2**31 - 1
_GC_INTERVAL = 5000


def prepare_process(threads: int | None = None) -> dict[str, Any]:
    """Set up allocator and threads once per process; returns what was done, for the run's record.

    threads: of torch's operators; default: the physical cores that this process may use, or OMP_NUM_THREADS.
    """
    count = threads or int(os.environ.get("OMP_NUM_THREADS") or 0) or usable_cores()
    torch.set_num_threads(count)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    return {
        "threads": count,
        "allocator": keep_freed_memory(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


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


def usable_cores() -> int:
    """Physical cores, limited by the CPU affinity and by the control group's quota."""
    limits = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            limits.append(max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return min(limits)


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory use so far in MiB: allocated on the GPU, resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def process_seconds() -> float:
    """Wall time since this process was started, imports included."""
    return time.time() - psutil.Process().create_time()


def describe_software() -> dict[str, str]:
    import numpy

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }


def describe_device(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"kind": "cuda", "name": properties.name, "memory_mb": properties.total_memory // 2**20}
    return {
        "kind": device.type,
        "name": cpu_name(),
        "cores": usable_cores(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
    }


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
