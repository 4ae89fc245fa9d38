"""Runs a compiled kernel over a grid: buffers in, buffers and findings out.

The structures mirror those of include/state.h.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autoresearch_mlx.metal_cpu.build import load
from autoresearch_mlx.metal_cpu.dtypes import poison
from autoresearch_mlx.metal_cpu.errors import LaunchFailed

STACK_BYTES = 1 << 17  # of each thread, its guard page included
_MOST_FINDINGS = 256
_locks: dict[Path, threading.Lock] = {}
_locks_lock = threading.Lock()
_I32, _U32, _U64 = ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint64


class RawFinding(ctypes.Structure):
    """One finding as the run time keeps it."""

    _fields_ = [
        *((name, _I32) for name in ("kind", "line", "other_line", "thread", "other_thread", "waiting", "elsewhere")),
        *((name, _I32) for name in ("finished", "writes", "other_writes")),
        ("group", _U32 * 3), ("other_group", _U32 * 3), ("index", ctypes.c_int64),
        ("code", _U64), ("other_code", _U64), ("times", _U64), ("name", ctypes.c_char * 64),
    ]  # fmt: skip


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("gaps", ctypes.c_void_p),
        ("bytes", _U64), ("first", _U64), ("poison", _U64),
        ("element", _I32), ("writable", _I32), ("initialised", _I32), ("constant", _I32),
    ]  # fmt: skip


class _Launch(ctypes.Structure):
    _fields_ = [
        ("buffers", ctypes.POINTER(_Buffer)), ("findings", ctypes.POINTER(RawFinding)),
        ("object_base", _U64), ("threadgroup_bytes", _U64), ("stack_bytes", _U64),
        *((name, _I32) for name in ("buffer_count", "finding_capacity", "finding_count", "reverse", "fibers")),
        *((name, _I32) for name in ("float_atomics", "aborted", "out_of_memory")),
        ("grid", _U32 * 3), ("group", _U32 * 3),
    ]  # fmt: skip


@dataclass
class Argument:
    """One buffer of a launch. `data` is contiguous; outputs are written to it.

    `first` is the offset in bytes of the array's element 0; `gaps` marks elements of `data` (1) that are no elements
    of a strided array.
    """

    name: str
    data: np.ndarray
    first: int = 0
    gaps: np.ndarray | None = None
    writable: bool = False
    initialised: bool = False
    constant: bool = False


@dataclass
class Outcome:
    """What a launch left besides its outputs."""

    findings: list[RawFinding] = field(default_factory=list)
    threadgroup_bytes: int = 0
    float_atomics: bool = False
    aborted: bool = False


def launch(
    path: Path,
    arguments: Sequence[Argument],
    grid: Sequence[int],
    group: Sequence[int],
    *,
    fibers: bool,
    reverse: bool = False,
    poison_kind: int = 0,
) -> Outcome:
    """Run the kernel in shared object `path`; `grid` and `group` are threads per axis. Raises LaunchFailed."""
    library = load(path)
    buffers = (_Buffer * max(1, len(arguments)))()
    for buffer, argument in zip(buffers, arguments, strict=False):
        data = argument.data
        buffer.name = argument.name.encode()
        buffer.data, buffer.bytes, buffer.first = data.ctypes.data, data.nbytes, argument.first
        buffer.gaps = argument.gaps.ctypes.data if argument.gaps is not None else None
        buffer.poison = poison(data.dtype, poison_kind)
        buffer.element, buffer.writable = data.dtype.itemsize, argument.writable
        buffer.initialised, buffer.constant = argument.initialised, argument.constant
    findings = (RawFinding * _MOST_FINDINGS)()
    base = _object_base(library)
    request = _Launch(
        buffers=buffers, findings=findings, object_base=base, stack_bytes=STACK_BYTES,
        buffer_count=len(arguments), finding_capacity=_MOST_FINDINGS, reverse=reverse, fibers=fibers,
        grid=(_U32 * 3)(*grid), group=(_U32 * 3)(*group),
    )  # fmt: skip
    with _locks_lock:
        lock = _locks.setdefault(path, threading.Lock())
    with lock:  # the run time keeps the state of one launch
        failed = library.msl_launch(ctypes.byref(request))
    if failed:
        threads = group[0] * group[1] * group[2]
        raise LaunchFailed(f"no memory for the kernel's buffers and the stacks of {threads} threads")
    return Outcome(
        list(findings[: request.finding_count]),
        request.threadgroup_bytes,
        bool(request.float_atomics),
        bool(request.aborted),
    )


class _SymbolInfo(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p)
    ]  # fmt: skip


def _object_base(library: ctypes.CDLL) -> int:
    """Where the shared object begins in memory, so that addresses of code become offsets in the file."""
    info = _SymbolInfo()
    entry = ctypes.cast(library.msl_launch, ctypes.c_void_p)
    found = ctypes.CDLL(None).dladdr(entry, ctypes.byref(info))
    return info.base or 0 if found else 0
