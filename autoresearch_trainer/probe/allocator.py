"""How glibc's malloc behaves: from which size on a block has a mapping of its own, and when freed memory goes back.

mallopt changes that for the whole process, and nothing tells what it was set to. So it is tried out: some large blocks
are taken and given back, none is touched, which takes some 0.1 ms.
"""

import ctypes
import platform
from functools import cache

from autoresearch_trainer.probe.memory import malloc_state

MIB = 1 << 20
_M_PERTURB = -6
_IS_MAPPED = 2  # bit of the size that stands before a block
# malloc raises its thresholds by itself: to 32 MiB for a mapping of its own, to twice that for giving memory back.
_MOST_DYNAMIC = 32 * MIB
_BLOCK = _MOST_DYNAMIC - MIB
_MOST_BLOCKS, _GROWN_BLOCKS = 24, 4
# More than malloc takes from its heap by itself, and less than the 2 GiB at whose end even a process that keeps freed
# memory gives it back.
_HUGE, _MOST_FREE = 1536 * MIB, 1900 * MIB
_KEPT, _MOST_LOOKS = "kept", 3
_FRESH = 4096  # more than the blocks that are kept aside as they were freed

# Values are compared, not interpreted.
Behaviour = dict[str, str]


def behaviour() -> Behaviour:
    """What malloc does now, in the thread that asks, the main one; empty where the C library is another one, or malloc
    is a sanitizer's.

    What malloc adapts by itself is first brought to its end, so that this differs only where somebody changed it.
    """
    libc = _libc()
    if libc is None:
        return {}
    libc.mallopt(_M_PERTURB, 0)  # else it fills what nobody touches
    libc.free(libc.malloc(_MOST_DYNAMIC - (MIB >> 4)))
    found = _large(libc)
    for _ in range(_MOST_LOOKS):
        if found == _KEPT:  # so it seems, too, where another thread took memory above these blocks meanwhile
            found = _large(libc)
    return {"malloc: a block of 1.5 GiB": _huge(libc), "malloc: blocks of 31 MiB": found}


def fills_with(pattern: int) -> bool:
    """Whether malloc still fills what it hands out, as `fill_fresh_memory` told it; also where that cannot be known."""
    libc = _libc()
    if libc is None or pattern == 0xFF:  # the byte that stands for filling nothing
        return True
    block = libc.malloc(_FRESH)
    if not block:
        return True
    found = ctypes.string_at(block, _FRESH)
    libc.free(block)
    return found == bytes([pattern]) * _FRESH


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    if platform.libc_ver()[0] != "glibc" or hasattr(libc, "__asan_init"):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    return libc


def _huge(libc: ctypes.CDLL) -> str:
    if malloc_state().keepcost > _MOST_FREE - 2 * _MOST_DYNAMIC:
        libc.malloc_trim(0)
    # So large that the heap has to grow for it.
    block = libc.malloc(max(_HUGE, malloc_state().keepcost + _MOST_DYNAMIC + MIB))
    if not block:
        return "refused"
    mapped, grown = _is_mapped(block), libc.sbrk(0)
    libc.free(block)
    return "mapped" if mapped else f"of the heap, {_KEPT if libc.sbrk(0) >= grown else 'given back'}"


def _large(libc: ctypes.CDLL) -> str:
    """Whether they are mapped; else how many have to be freed at the heap's end until it shrinks."""
    held: list[int] = []
    try:
        end = libc.sbrk(0)
        while libc.sbrk(0) - end < _GROWN_BLOCKS * _BLOCK and len(held) < _MOST_BLOCKS:
            block = libc.malloc(_BLOCK)
            if not block:
                return "refused"
            held.append(block)
            if _is_mapped(block):
                return "mapped"
        grown = libc.sbrk(0)
        for freed in range(1, _GROWN_BLOCKS + 1):
            libc.free(held.pop())
            if libc.sbrk(0) < grown:
                return f"given back after {freed}"
        return _KEPT
    finally:
        while held:
            libc.free(held.pop())


def _is_mapped(block: int) -> bool:
    return bool(ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value & _IS_MAPPED)
