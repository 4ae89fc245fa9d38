"""AddressSanitizer, a part of the C++ compiler: how kernels are built with it, and what a process needs to load them.

A kernel built with it stops at the first access outside of an allocated block, and says which. Its runtime library
replaces malloc, so that every block, a tensor's storage among them, lies between zones that nobody may touch. The
library has to be loaded before anything else, Python included.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from autoresearch_common import compiler

# Set to "address": kernels of this process are built with the sanitizer.
VARIABLE = "AUTORESEARCH_SANITIZE"
ADDRESS = "address"
PRELOAD = "LD_PRELOAD"
# Without optimisation calls take ten times as long; with more of it compiling does.
COMPILE_FLAGS = ("-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address")
LINK_FLAGS = ("-fsanitize=address",)
# clang links its runtime into programs only, unless told.
CLANG_LINK_FLAGS = (*LINK_FLAGS, "-shared-libsan")
# redzone: bytes in front of every block, 16 by default. The rest keeps quiet about what is not the kernel's (leaks,
# pairs of malloc and delete in libraries), and saves time and memory.
OPTIONS = {
    "redzone": "256",
    "detect_leaks": "0",
    "alloc_dealloc_mismatch": "0",
    "new_delete_type_mismatch": "0",
    "detect_odr_violation": "0",
    "allocator_may_return_null": "1",
    "malloc_context_size": "1",
    "quarantine_size_mb": "16",
}


def active() -> bool:
    """Whether kernels of this process are built with the sanitizer."""
    return os.environ.get(VARIABLE) == ADDRESS


def environment(runtime: Path, log: Path) -> dict[str, str]:
    """Variables of a process that runs such kernels. log: the report becomes a file of this name, a dot and the
    process's number behind it."""
    options = OPTIONS | {"log_path": str(log)}
    return {
        VARIABLE: ADDRESS,
        PRELOAD: str(runtime),
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
    }


def begin() -> None:
    """To be called as such a process begins: programs that it starts, the compiler for instance, run without the
    sanitizer, which a confined process could not even start."""
    if active():
        os.environ.pop(PRELOAD, None)


@cache
def runtime() -> Path | None:
    """The sanitizer's library of the C++ compiler in use; None where it has none, or the system is not Linux."""
    if sys.platform != "linux":
        return None
    try:
        command, version = compiler.find()
    except compiler.CompilerMissing:
        return None
    for name in _names("clang" in version):
        done = subprocess.run([*command, f"-print-file-name={name}"], capture_output=True, text=True)
        # A name that it does not know comes back as it is.
        path = Path(done.stdout.strip())
        if done.returncode == 0 and path.is_absolute() and path.is_file():
            return path.resolve()
    return None


def _names(clang: bool) -> tuple[str, ...]:
    machine = platform.machine()
    return (f"libclang_rt.asan-{machine}.so", "libclang_rt.asan.so") if clang else ("libasan.so",)
