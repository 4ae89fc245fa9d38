"""Linux Landlock through its system calls: what a process may read and write from now on, irrevocably.

Numbers and structures are those of linux/landlock.h; the calls have the same numbers on every architecture. What a
kernel's version cannot enforce is reported, never assumed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
# Bits that make sense on a file that is no folder; a rule with others is refused by the kernel.
_FILE_BITS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_V1_BITS = (1 << 13) - 1
READ = EXECUTE | READ_FILE | READ_DIR
LIST = READ_DIR

# None of these is enforced without Landlock.
UNENFORCED = ("writes outside the run folder", "reads", "signals to other processes")

_NET_TCP = 0b11  # bind and connect
_SCOPE_SIGNALS_AND_SOCKETS = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict(
    *, write: Iterable[Path], read: Iterable[Path], enumerate_only: Iterable[Path], devices: Iterable[Path]
) -> list[str]:
    """Allow this process and its children everything below `write`, reading and executing below `read`, listing of
    folders below `enumerate_only`, reading and writing of existing files below `devices`, and nothing else.

    Needs no_new_privs to be set. Paths that do not exist are left out. Returns what could not be enforced, by name.
    """
    abi = version()
    if abi < 1:
        return list(UNENFORCED)
    handled = _V1_BITS | (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0) | (IOCTL_DEV if abi >= 5 else 0)
    attributes = _Ruleset(handled, _NET_TCP if abi >= 4 else 0, _SCOPE_SIGNALS_AND_SOCKETS if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    libc = _libc()
    ruleset = libc.syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return [f"Landlock ({os.strerror(ctypes.get_errno())})"]
    try:
        everything = handled
        on_devices = (READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV) & handled
        rules = [(write, everything), (read, READ), (enumerate_only, LIST), (devices, on_devices)]
        for paths, allowed in rules:
            for path in paths:
                _allow(libc, ruleset, Path(path), allowed)
        if libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
            return [f"Landlock ({os.strerror(ctypes.get_errno())})"]
    finally:
        os.close(ruleset)
    return ["signals to other processes"] if abi < 6 else []


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, allowed: int) -> None:
    """Add one rule; a path that is not there needs none. Raises OSError where the kernel refuses the rule."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(allowed if path.is_dir() else allowed & _FILE_BITS, handle)
        if not rule.allowed:
            return
        result = libc.syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
        if result != 0:
            raise OSError(ctypes.get_errno(), f"Landlock refuses a rule for {path}")
    finally:
        os.close(handle)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
