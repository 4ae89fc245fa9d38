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
# `arena` bytes of all other memory that malloc has, `uordblks` bytes of it that are in use, and `keepcost` bytes at the
# heap's end that are free.
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
# Python's small objects take whole multiples of 16 bytes.
BLOCK_BYTES = 16
# Growth of fewer bytes per call in any part of the calls is chance.
LEAST_PER_CALL = 8
LEAST = 4096
LEAST_GARBAGE = 1024
# Parts that the calls are cut into: in the first a cache may fill, in each of the others a leak grows.
PARTS = 4


class MallocState(ctypes.Structure):
    """The C library's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def allocated() -> int:
    """Bytes in use: of the C library's memory, where that tells (not on macOS), and of Python's small objects at
    least."""
    return in_heap() + BLOCK_BYTES * sys.getallocatedblocks()


def in_heap() -> int:
    """Bytes in use of the C library's memory, where that tells: arrays are in it, Python's small objects are not."""
    found = malloc_state()
    return int(found.uordblks + found.hblkhd)


def mapped() -> int:
    """Bytes of address space that did not come from malloc, which keeps what was freed; 0 where the system does not
    tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    found = malloc_state()
    return int(pages) * resource.getpagesize() - int(found.arena + found.hblkhd)


def malloc_state() -> MallocState:
    """What malloc tells of itself; all zero where the C library does not tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return MallocState()
    mallinfo.restype = MallocState
    found: MallocState = mallinfo()
    return found


class Growth:
    """Readings of the memory in use between equal parts of many calls. used: bytes in use at this moment. garbage: so
    many bytes in each call make what only a collection gives back a leak, since a training collects none in thousands
    of steps. held: bytes that count as such; those of Python's small objects do not, which PyTorch's own checkpoints
    and vmap leave in circles with each call (some 350 bytes for each checkpoint), and which do no harm."""

    def __init__(
        self, used: Callable[[], int], garbage: int = LEAST_GARBAGE, held: Callable[[], int] | None = None
    ) -> None:
        self._used, self._held = used, held or used
        self._garbage = garbage
        self._readings: list[tuple[int, int]] = []
        # (objects, bytes) that collecting garbage gave back at each reading.
        self._collected: list[tuple[int, int]] = []

    def read(self, calls: int) -> None:
        """After so many calls in all."""
        before, objects = self._held(), gc.collect()
        self._readings.append((calls, self._used()))
        self._collected.append((objects, before - self._held()))

    def per_call(self) -> float:
        """Bytes by which memory grew with each call, the first part left out; 0 where it did not in every part."""
        return max(self._kept(), self._left_to_collect())

    def _left_to_collect(self) -> float:
        found = []
        for place in range(2, len(self._readings)):
            calls = self._readings[place][0] - self._readings[place - 1][0]
            objects, size = self._collected[place]
            # What was freed and is only kept for the next of its kind is given back as well, without being found.
            if not calls or objects < calls or size < max(LEAST, self._garbage * calls):
                return 0.0
            found.append(size / calls)
        return min(found) if len(found) >= PARTS - 1 else 0.0

    def _kept(self) -> float:
        readings = self._readings[1:]
        slopes = []
        for (before, first), (after, second) in zip(readings, readings[1:], strict=False):
            calls, grown = after - before, second - first
            if not calls or grown < max(LEAST, LEAST_PER_CALL * calls):
                return 0.0
            slopes.append(grown / calls)
        return min(slopes) if len(slopes) >= PARTS - 1 else 0.0


@contextmanager
def no_collection() -> Iterator[None]:
    """Within it garbage is collected by nobody but `Growth`, as in a training; what was there before takes no time."""
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
