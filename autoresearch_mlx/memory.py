"""What MLX knows of memory: how much is free, and which error says that it ran out."""

import mlx.core as mx

from autoresearch_trainer import memory


def on_gpu() -> bool:
    """Whether MLX computes on an Apple GPU here; otherwise on the CPU."""
    return mx.metal.is_available() and mx.default_device() == mx.gpu


def recommended_bytes() -> int | None:
    """What Metal recommends as the largest working set; None on the CPU."""
    return int(mx.device_info()["max_recommended_working_set_size"]) if on_gpu() else None


def available_bytes(device: str = "mlx") -> int:
    """Free memory: of the system, and on a GPU no more than Metal recommends to one process.

    The memory is shared by CPU and GPU on Apple silicon, so that both limits hold.
    """
    limit = recommended_bytes()
    free = memory.system_bytes()
    return free if limit is None else min(free, limit - mx.get_active_memory())


def own_bytes(device: str = "mlx") -> int:
    """What this process holds: a new one gets it back."""
    return mx.get_active_memory() + mx.get_cache_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the exception is an allocator's: Metal's, the CPU's, or Python's own."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    marks = ("unable to allocate", "attempting to allocate", "out of memory", "outofmemory", "insufficient memory")
    return isinstance(error, RuntimeError) and any(mark in text for mark in marks)
