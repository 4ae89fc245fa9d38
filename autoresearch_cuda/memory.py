"""What PyTorch knows of memory: how much is free, and which error says that it ran out."""

import torch

from autoresearch_trainer import memory


def available_bytes(device: str) -> int:
    """Free memory: of the GPU, or of the system within this process's control group."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else memory.system_bytes()


def own_bytes(device: str) -> int:
    """What this process holds: a new one gets it back."""
    return torch.cuda.memory_reserved() if device == "cuda" else memory.resident_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the exception is the allocator's: the GPU's, the CPU's, or Python's own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
