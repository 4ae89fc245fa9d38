"""Memory filled with a pattern before a kernel runs, so that a result it did not compute cannot look right.

A kernel that leaves part of its output unwritten returns whatever lay there before. Here that is never an older right
answer: the process has run no other kernel of the target, and what malloc hands out holds a pattern.
"""

import ctypes
import platform
from collections.abc import Iterable

import torch

# Every byte of fresh memory. As a float: -1.7e38 (float32, bfloat16) or NaN (float16); as a class number: nonsense.
PATTERN = 0xFE
# Another one, to tell memory that was left as it was from a value that happens to be huge.
SECOND_PATTERN = 0x7F

_M_PERTURB = -6
_BLOCKS_PER_SIZE = 2
_empty, _fill = torch.empty, torch.Tensor.fill_


def set_pattern(pattern: int) -> bool:
    """Have malloc fill every block that it hands out from now on; False where the C library cannot."""
    if platform.libc_ver()[0] != "glibc":
        return False
    # The library stores the complement: what it is given is what freed blocks are filled with.
    return bool(ctypes.CDLL(None).mallopt(_M_PERTURB, pattern ^ 0xFF))


def dirty_blocks(sizes: Iterable[int], pattern: int, device: torch.device) -> None:
    """Allocate blocks of these sizes (bytes), fill them, and give them back: an allocator that keeps its own lists
    (a GPU's, or malloc's for small blocks) is likely to hand exactly these out next."""
    blocks = [
        _fill(_empty(max(1, size), dtype=torch.uint8, device=device), pattern)
        for size in sizes
        for _ in range(_BLOCKS_PER_SIZE)
    ]
    del blocks
