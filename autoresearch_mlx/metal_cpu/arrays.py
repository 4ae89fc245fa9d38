"""How a strided input lies in memory: the span of bytes that its elements are in, and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from autoresearch_mlx.metal_cpu.dtypes import poison_bits


@dataclass
class Layout:
    """An input as a kernel gets it: shape and strides are counted in elements, `first` is element 0's byte in `data`.

    `data` is flat; `gaps` (one byte per element of `data`, 1 between the array's elements) is None without gaps.
    """

    data: np.ndarray
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int = 0
    gaps: np.ndarray | None = None


def laid_out(array: np.ndarray, contiguous: bool) -> Layout:
    """The layout of `array`, made row-major if `contiguous`; gaps are poisoned."""
    itemsize = array.dtype.itemsize
    aligned = all(stride % itemsize == 0 for stride in array.strides)
    if contiguous or not aligned or array.flags.c_contiguous or array.size == 0:
        dense = np.ascontiguousarray(array).reshape(array.shape)
        strides = tuple(stride // itemsize for stride in dense.strides)
        return Layout(dense.reshape(-1), array.shape, strides)
    strides = tuple(stride // itemsize for stride in array.strides)
    reach = [(size - 1) * stride for size, stride in zip(array.shape, strides, strict=True)]
    before, after = -sum(step for step in reach if step < 0), sum(step for step in reach if step > 0)
    data = np.empty(before + after + 1, array.dtype)
    data.view(f"u{itemsize}")[:] = poison_bits(array.dtype, 0)
    gaps = np.ones(data.size, np.uint8)
    as_strided(data[before:], array.shape, array.strides)[...] = array
    as_strided(gaps[before:], array.shape, strides)[...] = 0
    return Layout(data, array.shape, strides, before * itemsize, gaps if gaps.any() else None)
