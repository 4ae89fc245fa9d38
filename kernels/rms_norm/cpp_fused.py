"""Root-mean-square normalisation in C++: one pass over memory forward, one backward, float32 inside."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REAL

# What `orchestrate --proposer tuner` may set in the C++ source.
TUNABLE = {"BLOCK": (4, 8, 16, 32, 64)}

_kernel = native.load(__file__)
_forward = _kernel.function("rms_norm_forward", POINTER, POINTER, INTEGER, INTEGER, REAL, CODE)
_backward = _kernel.function("rms_norm_backward", POINTER, POINTER, POINTER, INTEGER, INTEGER, REAL, CODE)


def _compute(x: Tensor, eps: float) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    width = x.shape[-1]
    if x.numel():
        _forward(x.data_ptr(), y.data_ptr(), x.numel() // width, width, eps, native.dtype_code(x))
    return y


def _compute_gradient(g: Tensor, x: Tensor, eps: float) -> Tensor:
    g, x = g.contiguous(), x.contiguous()
    dx = torch.empty_like(x)
    width = x.shape[-1]
    if x.numel():
        rows = x.numel() // width
        _backward(g.data_ptr(), x.data_ptr(), dx.data_ptr(), rows, width, eps, native.dtype_code(x))
    return dx


_gradient = _kernel.operator(
    "gradient(Tensor g, Tensor x, float eps) -> Tensor",
    _compute_gradient,
    lambda g, x, eps: x.new_empty(x.shape),
)
_normalise = _kernel.operator(
    "normalise(Tensor x, float eps) -> Tensor",
    _compute,
    lambda x, eps: x.new_empty(x.shape),
    gradient=_gradient,
)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """y = x / sqrt(mean(x², last axis) + eps), x (..., C) float32, bfloat16 or float16; y contiguous, in x's dtype."""
    return _normalise(x, eps)
