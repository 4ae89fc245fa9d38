"""Squared ReLU in C++: one pass forward and one backward; backward needs x only, no intermediate is kept."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER

_kernel = native.load(__file__)
_forward = _kernel.function("relu_squared_forward", POINTER, POINTER, INTEGER, CODE)
_backward = _kernel.function("relu_squared_backward", POINTER, POINTER, POINTER, INTEGER, CODE)


def _compute(x: Tensor) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    _forward(x.data_ptr(), y.data_ptr(), x.numel(), native.dtype_code(x))
    return y


def _compute_gradient(g: Tensor, x: Tensor) -> Tensor:
    g, x = g.contiguous(), x.contiguous()
    dx = torch.empty_like(x)
    _backward(g.data_ptr(), x.data_ptr(), dx.data_ptr(), x.numel(), native.dtype_code(x))
    return dx


_gradient = _kernel.operator(
    "gradient(Tensor g, Tensor x) -> Tensor",
    _compute_gradient,
    lambda g, x: x.new_empty(x.shape),
)
_square = _kernel.operator(
    "square(Tensor x) -> Tensor",
    _compute,
    lambda x: x.new_empty(x.shape),
    gradient=_gradient,
)


def relu_squared(x: Tensor) -> Tensor:
    """y = max(x, 0)², x of any shape in float32, bfloat16 or float16; y contiguous, in x's dtype."""
    return _square(x)
