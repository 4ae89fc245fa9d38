"""Rotary position embedding in C++: one pass, float32 inside, views with strides read in place."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGERS, POINTER, REAL, integers

_kernel = native.load(__file__)
_rotate_rows = _kernel.function("rope_rotate", POINTER, INTEGERS, POINTER, POINTER, POINTER, INTEGERS, REAL, CODE, CODE)


def _compute(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """Rotate by -theta for sign 1, by theta for sign -1."""
    batch, length, heads, width = x.shape
    half = width // 2
    if width % 2 or cos.shape != (1, length, 1, half) or sin.shape != cos.shape:
        raise ValueError(f"x {tuple(x.shape)} does not fit cos {tuple(cos.shape)} and sin {tuple(sin.shape)}")
    if x.stride(3) != 1:
        x = x.contiguous()
    if not cos.dtype == sin.dtype == x.dtype:
        cos, sin = cos.float(), sin.float()
    cos, sin = cos.contiguous(), sin.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype)
    _rotate_rows(
        x.data_ptr(),
        integers(x.stride()),
        cos.data_ptr(),
        sin.data_ptr(),
        y.data_ptr(),
        integers((batch, length, heads, half)),
        sign,
        native.dtype_code(x),
        native.dtype_code(cos),
    )
    return y


def _differentiate(g: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    return _rotate(g, cos, sin, -sign)


_rotate = _kernel.operator(
    "rotate(Tensor x, Tensor cos, Tensor sin, float sign) -> Tensor",
    _compute,
    lambda x, cos, sin, sign: x.new_empty(x.shape),
    gradient=_differentiate,
)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """y1 = x1·cos + x2·sin, y2 = x2·cos − x1·sin on the halves of the last axis.

    x (B,T,H,D) with any strides, cos and sin (1,T,1,D/2) without gradients; y contiguous, in x's dtype. Raises
    ValueError for shapes that do not fit.
    """
    return _rotate(x, cos, sin, 1.0)
