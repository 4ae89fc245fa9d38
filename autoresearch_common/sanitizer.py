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
from collections.abc import Sequence
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


def environment(libraries: Sequence[Path], log: Path) -> dict[str, str]:
    """Variables of a process that runs such kernels. libraries: see `runtime`. log: the report becomes a file of this
    name, a dot and the process's number behind it."""
    options = OPTIONS | {"log_path": str(log)}
    return {
        VARIABLE: ADDRESS,
        PRELOAD: " ".join(map(str, libraries)),
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
    }


def begin() -> None:
    """To be called as such a process begins: programs that it starts, the compiler for instance, run without the
    sanitizer, which a confined process could not even start."""
    if active():
        os.environ.pop(PRELOAD, None)


@cache
def runtime() -> tuple[Path, ...]:
    """What has to be loaded first, for the C++ compiler in use; empty where it has no sanitizer, or the system is not
    Linux. Behind the sanitizer's own library C++'s: as it starts, it looks for what throws exceptions, and Python
    itself brings none; the first exception would end the process."""
    if sys.platform != "linux":
        return ()
    try:
        command, version = compiler.find()
    except compiler.CompilerMissing:
        return ()
    found = [path for name in _names("clang" in version) if (path := _library(command, name))]
    library = _library(command, "libstdc++.so.6")
    return (found[0], library) if found and library else ()


def _library(command: Sequence[str], name: str) -> Path | None:
    """Where a library of the compiler lies; a name that it does not know comes back as it is."""
    done = subprocess.run([*command, f"-print-file-name={name}"], capture_output=True, text=True)
    path = Path(done.stdout.strip())
    return path.resolve() if done.returncode == 0 and path.is_absolute() and path.is_file() else None


def _names(clang: bool) -> tuple[str, ...]:
    machine = platform.machine()
    return (f"libclang_rt.asan-{machine}.so", "libclang_rt.asan.so") if clang else ("libasan.so",)
