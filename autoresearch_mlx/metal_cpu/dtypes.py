"""Element types as NumPy, MLX and Metal name them, and arrays of MLX as NumPy sees them.

MLX is imported only where an MLX array or dtype is at hand: without MLX everything works on NumPy arrays. bfloat16 is
ml_dtypes.bfloat16 in NumPy.
"""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Metal's names, as MLX writes them into the generated signature.
METAL_NAMES = {
    np.dtype(np.float32): "float",
    np.dtype(np.float16): "float16_t",
    BFLOAT16: "bfloat16_t",
    np.dtype(np.bool_): "bool",
    **{np.dtype(f"{sign}int{bits}"): f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_BY_NAME = {dtype.name: dtype for dtype in METAL_NAMES} | {"bool_": np.dtype(np.bool_)}
_POISON = {  # not-a-numbers of two kinds; the second differs from all that a computation produces
    np.dtype(np.float32): (0xFFFFFFFFFFFFFFFF, 0x7FE5A5A57FE5A5A5),
    np.dtype(np.float16): (0xFFFFFFFFFFFFFFFF, 0x7E5A7E5A7E5A7E5A),
    BFLOAT16: (0xFFFFFFFFFFFFFFFF, 0x7FDA7FDA7FDA7FDA),
}
_POISON_INTEGER = (0xFFFFFFFFFFFFFFFF, 0xA5A5A5A5A5A5A5A5)


def is_mlx(value: Any) -> bool:
    """Whether `value` is an MLX array or dtype."""
    return type(value).__module__ == "mlx.core" and "mlx.core" in sys.modules


def as_dtype(value: Any) -> np.dtype:
    """The NumPy dtype of an MLX or NumPy dtype, or of a name. Raises TypeError for one that kernels do not take."""
    if is_mlx(value):
        name = str(value).rpartition(".")[2]
        found = BFLOAT16 if name == "bfloat16" else _BY_NAME.get(name)
    else:
        found = np.dtype(BFLOAT16 if isinstance(value, str) and value == "bfloat16" else value)
    if found is None or found not in METAL_NAMES:
        raise TypeError(f"kernels take no arrays of {value}")
    return found


def is_dtype(value: Any) -> bool:
    """Whether a template value is an element type, not a number."""
    return isinstance(value, np.dtype | type) or (is_mlx(value) and type(value).__name__ == "Dtype")


def as_numpy(value: Any) -> np.ndarray:
    """An input as NumPy sees it, strides kept and nothing copied where that is possible.

    Python numbers become arrays without axes, as in MLX: bool, int32 and float32.
    """
    if is_mlx(value):
        import mlx.core as mx

        if value.dtype == mx.bfloat16:
            return np.asarray(value.view(mx.uint16)).view(BFLOAT16)
        array = np.asarray(value)
    elif isinstance(value, bool):
        array = np.asarray(value, np.bool_)
    elif isinstance(value, int):
        array = np.asarray(value, np.int32)
    elif isinstance(value, float):
        array = np.asarray(value, np.float32)
    else:
        array = np.asarray(value)
    if array.dtype not in METAL_NAMES:
        raise TypeError(f"kernels take no arrays of {array.dtype}")
    return array


def as_mlx(array: np.ndarray) -> Any:
    """A NumPy array as an MLX array. Raises ImportError where MLX is not installed."""
    import mlx.core as mx

    if array.dtype == BFLOAT16:
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array)


def poison(dtype: np.dtype, kind: int) -> int:
    """Eight bytes, as an integer, that fill an uninitialised output: pattern `kind` (0 or 1)."""
    return _POISON.get(dtype, _POISON_INTEGER)[kind]


def poison_bits(dtype: np.dtype, kind: int) -> np.ndarray:
    """The pattern of one element, as an unsigned integer of its size (no axes)."""
    return np.frombuffer(poison(dtype, kind).to_bytes(8, "little"), f"u{dtype.itemsize}")[0]
