"""How much memory a process has asked for and not given back, to the byte: what the system counts (pages) is rounder,
and keeps what was freed."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Fields of the C library's `struct mallinfo2`, all size_t; of these `hblkhd` are bytes in large blocks of their own,
# and `uordblks` bytes in all others that are in use.
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
# Python's small objects take whole multiples of 16 bytes.
BLOCK_BYTES = 16
# Growth of fewer bytes per call in any part of the calls is chance.
LEAST_PER_CALL = 8
LEAST = 4096
# The collector empties Python's own stocks of objects as well: 6 to 9 KB, and 20 bytes a call.
LEAST_GARBAGE, LEAST_GARBAGE_PER_CALL = 1 << 15, 256
# Parts that the calls are cut into: in the first a cache may fill, in each of the others a leak grows.
PARTS = 4


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def allocated() -> int:
    """Bytes in use: of the C library's memory, where that tells (not on macOS), and of Python's small objects at
    least."""
    blocks = BLOCK_BYTES * sys.getallocatedblocks()
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return blocks
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd) + blocks


def mapped() -> int:
    """Bytes of address space in use, what did not come from malloc included; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


class Growth:
    """Readings of the memory in use between equal parts of many calls. `used`: bytes in use at this moment."""

    def __init__(self, used: Callable[[], int]) -> None:
        self._used = used
        self._readings: list[tuple[int, int]] = []

    def read(self, calls: int) -> None:
        """After so many calls in all."""
        gc.collect()
        self._readings.append((calls, self._used()))

    def per_call(self) -> float:
        """Bytes by which memory grew with each call, the first part left out; 0 where it did not in every part."""
        readings = self._readings[1:]
        slopes = []
        for (before, first), (after, second) in zip(readings, readings[1:], strict=False):
            slopes.append(per_call(second - first, after - before))
        return min(slopes) if len(slopes) >= PARTS - 1 else 0.0


def per_call(grown: int, calls: int, least: int = LEAST, least_per_call: int = LEAST_PER_CALL) -> float:
    """Bytes a call of those by which memory grew; 0 where that is so little that it may be chance."""
    return grown / calls if calls and grown >= max(least, least_per_call * calls) else 0.0


def garbage_per_call(collected: int, calls: int) -> float:
    """Bytes a call of those that the collector gave back; 0 where these may be Python's own small objects."""
    return per_call(collected, calls, LEAST_GARBAGE, LEAST_GARBAGE_PER_CALL)


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Within it collecting garbage takes no time for what was there before, and is done when asked for only."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
