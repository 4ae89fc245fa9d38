"""The process and its machine as PyTorch sees them: settings, device, memory.

Every process that trains or times calls `prepare_process` first, so that whatever is compared shares its settings.
"""

import os
import platform

import psutil
import torch

from autoresearch_trainer.memory import resident_bytes
from autoresearch_trainer.process import cpu_name, keep_freed_memory, resident_peak_mb, usable_cores
from autoresearch_trainer.record import DeviceDescription, ProcessSettings


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
    """Highest memory use so far in MiB: allocated on the GPU, resident on the CPU. Metal keeps no record of the
    highest; what the process holds of it does not shrink while it trains."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return torch.mps.driver_allocated_memory() / 2**20 if kind == "mps" else resident_peak_mb()


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


def own_bytes(device: str) -> int:
    """What this process holds: a new one gets it back."""
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    return torch.cuda.memory_reserved() if device == "cuda" else resident_bytes()


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given; the CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the exception is the allocator's: the GPU's, the CPU's, or Python's own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
