"""Arrays laid out as a workload's argument specs say, and what came out described as the lab reads it.

Arrays of MLX are values: nobody can write into one, and a caller sees neither its address nor its strides. An input
still has the strides that its spec asks for, since kernels are handed them by MLX; a result is only judged by its type,
shape, dtype and values.
"""

from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_common.workload import ArraySpec
from autoresearch_mlx.arrays import NAMES, to_numpy
from autoresearch_trainer.jobs.calls import Form

# What lies between the elements of a strided argument belongs to somebody else.
GAP = 0xFF


class Argument:
    """One array argument: `array` is what a kernel gets. An axis of stride 0 is one that was
    expanded. Raises ValueError for strides whose elements overlap in any other way."""

    def __init__(self, spec: ArraySpec, content: np.ndarray) -> None:
        shape, strides = spec["shape"], spec["strides"]
        stored = [size if stride else min(size, 1) for size, stride in zip(shape, strides, strict=True)]
        if _overlaps(stored, strides):
            raise ValueError(f"argument {spec['name']}: strides {strides} of shape {shape} overlap")
        content = content[tuple(slice(size) for size in stored)]
        if _dense(stored, strides):
            self._strided = None
            self.storage = self.array = mx.array(np.ascontiguousarray(content).reshape(content.shape))
        else:
            span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            host = np.full(span * content.dtype.itemsize, GAP, np.uint8).view(content.dtype)
            steps = [stride * content.dtype.itemsize for stride in strides]
            np.lib.stride_tricks.as_strided(host, stored, steps)[...] = content
            self.storage = mx.array(host)
            self._strided = (shape, strides)
            self.array = mx.as_strided(self.storage, shape, strides)
        mx.eval(self.storage, self.array)

    def scaled(self, factor: float) -> mx.array:
        """`array` with floating values times a factor, in the same layout."""
        if not mx.issubdtype(self.array.dtype, mx.floating):
            return self.array
        storage = self.storage * mx.array(factor, dtype=self.storage.dtype)
        return storage if self._strided is None else mx.as_strided(storage, *self._strided)

    def content(self) -> bytes:
        """All bytes of the storage, those between the elements included."""
        return to_numpy(self.storage).tobytes()


def _overlaps(shape: list[int], strides: list[int]) -> bool:
    """Whether an axis steps by less than what the finer axes span; true for every layout that reuses an element."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1):
        if stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


def _dense(shape: list[int], strides: list[int]) -> bool:
    return strides_of(shape) == list(strides) or (0 in shape) or max(shape, default=1) <= 1


def strides_of(shape: list[int] | tuple[int, ...]) -> list[int]:
    """Row-major strides in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


def describe(value: Any) -> Form:
    """Form of one returned value; of an ordinary array all values may be read."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is not mx.array:
        return Form(type=name, plain=False)
    return Form(
        type=name,
        plain=value.dtype in NAMES,
        layout="values",
        dtype=NAMES.get(value.dtype, str(value.dtype)),
        shape=list(value.shape),
        device="mlx",
        strides=strides_of(value.shape),
        storage_bytes=value.nbytes,
    )


def cotangent_in(layout: str, cotangent: np.ndarray) -> mx.array:
    """A cotangent in one of the layouts "contiguous", "transposed" (stored with the first two axes exchanged), "inner
    transposed" (with the second and third exchanged, where there are three) or "expanded" (one element seen everywhere;
    the values must be equal). Raises ValueError for another name."""
    array = mx.array(cotangent)
    if layout == "contiguous" or array.ndim < 2 and layout.endswith("transposed"):
        return array
    if layout.endswith("transposed"):
        axes = (1, 2) if layout == "inner transposed" and array.ndim > 2 else (0, 1)
        return mx.contiguous(array.swapaxes(*axes)).swapaxes(*axes)
    if layout == "expanded":
        return mx.broadcast_to(array.reshape(-1)[:1].reshape([1] * array.ndim), array.shape)
    raise ValueError(f"unknown layout {layout!r}")
