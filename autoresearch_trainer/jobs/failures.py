"""Why a job ended without an answer, decided where the exception is at hand: by its class."""

from __future__ import annotations

from typing import Literal

from autoresearch_common.compiler import CompileFailed, CompilerMissing
from autoresearch_data.errors import DataError
from autoresearch_trainer.errors import ConfigError, KernelError, OutOfMemory

# bad_input: the request has to change (preset, option, dataset). kernel: a kernel's file is no use as it is, or its
# compiler is missing. memory: it ran out. exception: anything else that Python raised.
FailureKind = Literal["bad_input", "kernel", "memory", "exception"]


def failure_kind(error: BaseException) -> FailureKind:
    """What the lab is to make of an exception that ended a job."""
    if isinstance(error, MemoryError | OutOfMemory) or _says_memory(str(error)):
        return "memory"
    if isinstance(error, KernelError | CompilerMissing | CompileFailed):
        return "kernel"
    return "bad_input" if isinstance(error, ConfigError | DataError) else "exception"


def _says_memory(message: str) -> bool:
    """PyTorch's and MLX's allocators on the CPU raise a plain RuntimeError."""
    return "out of memory" in message.lower() or "can't allocate" in message
