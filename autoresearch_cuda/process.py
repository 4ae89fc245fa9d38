"""Settings of the whole process that need PyTorch; the others are shared by both engines.

Every process that trains or times calls `prepare_process` first, so that whatever is compared shares its settings.
"""

import os
import platform

import psutil
import torch

from autoresearch_trainer.process import (
    QuietCollector,
    cpu_name,
    keep_freed_memory,
    process_seconds,
    resident_peak_mb,
    usable_cores,
)
from autoresearch_trainer.record import DeviceDescription, ProcessSettings

__all__ = [
    "QuietCollector",
    "cpu_name",
    "describe_device",
    "describe_software",
    "peak_memory_mb",
    "prepare_process",
    "process_seconds",
    "usable_cores",
]


def prepare_process(threads: int | None = None) -> ProcessSettings:
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


def peak_memory_mb(device: torch.device | str) -> float:
    """Highest memory use so far in MiB: allocated on the GPU, resident on the CPU."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else resident_peak_mb()


def describe_software() -> dict[str, str]:
    import numpy

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }


def describe_device(device: torch.device | str) -> DeviceDescription:
    device = torch.device(device)
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
