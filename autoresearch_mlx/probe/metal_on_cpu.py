"""Stands in for `mx.fast.metal_kernel` where a machine has no Metal: kernels run on the CPU by way of `metal_cpu`.

Every launch computes in the fast build; small launches go through the checked build first, which sees races, accesses
outside of arrays and memory that nobody wrote. A finding of either raises `KernelFault` in words.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx

from autoresearch_mlx import metal_cpu

# Launches of more threads than this run in the fast build only: what is wrong shows on small, ragged ones.
MOST_CHECKED_THREADS = 1 << 16


class MetalOnCpu:
    """Makes kernels as `mx.fast.metal_kernel` does. `launches`: how many ran in each build, "fast" and "checked"."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()

    def metal_kernel(self, *args: Any, **kwargs: Any) -> Callable[..., list[mx.array]]:
        """The arguments are those of `mx.fast.metal_kernel`, as are those of the result."""
        fast = metal_cpu.metal_kernel(*args, **kwargs)
        checked = metal_cpu.metal_kernel(*args, **kwargs, check=True)

        def launch(**call: Any) -> list[mx.array]:
            if math.prod(call["grid"]) <= MOST_CHECKED_THREADS:
                self.launches["checked"] += 1
                checked(**call)
            self.launches["fast"] += 1
            return fast(**call)

        return launch


@contextlib.contextmanager
def metal_on_cpu() -> Iterator[MetalOnCpu]:
    """Kernels that are made inside run on the CPU, for good."""
    original, stand_in = mx.fast.metal_kernel, MetalOnCpu()
    mx.fast.metal_kernel = stand_in.metal_kernel
    try:
        yield stand_in
    finally:
        mx.fast.metal_kernel = original
