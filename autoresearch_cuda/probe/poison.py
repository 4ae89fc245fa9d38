"""Memory filled with a pattern before a kernel runs, so that a result it did not compute cannot look right.

A kernel that leaves part of its output unwritten returns whatever lay there before. Here that is never an older right
answer: the process has run no other kernel of the target, and what malloc hands out holds a pattern.
"""

from collections.abc import Iterable

import torch

from autoresearch_trainer.probe.poison import PATTERN, SECOND_PATTERN, set_pattern

__all__ = ["PATTERN", "SECOND_PATTERN", "dirty_blocks", "set_pattern"]

_BLOCKS_PER_SIZE = 2
_empty, _fill = torch.empty, torch.Tensor.fill_


def dirty_blocks(sizes: Iterable[int], pattern: int, device: torch.device) -> None:
    """Allocate blocks of these sizes (bytes), fill them, and give them back: an allocator that keeps its own lists
    (a GPU's, or malloc's for small blocks) is likely to hand exactly these out next."""
    blocks = [
        _fill(_empty(max(1, size), dtype=torch.uint8, device=device), pattern)
        for size in sizes
        for _ in range(_BLOCKS_PER_SIZE)
    ]
    del blocks
