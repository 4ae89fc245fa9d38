"""The scaled residual stream in C++: one pass forward, and one backward for all four gradients."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER
from autoresearch_cuda.operators import alike

# What `orchestrate --proposer tuner` may set in the C++ source.
TUNABLE = {"BLOCK": (1024, 2048, 4096, 8192, 16384)}

_kernel = native.load(__file__)
_forward = _kernel.function("residual_mix_forward", *[POINTER] * 5, INTEGER, CODE)
_backward = _kernel.function("residual_mix_backward", *[POINTER] * 8, INTEGER, CODE)


def _compute(x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> Tensor:
    x, x0 = alike(x, x0)
    y = torch.empty_like(x)
    a, b = a.float(), b.float()
    _forward(x.data_ptr(), x0.data_ptr(), a.data_ptr(), b.data_ptr(), y.data_ptr(), x.numel(), native.dtype_code(x))
    return y


def _compute_gradient(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dx0, and both factors' gradients as one float32 array of two."""
    x, x0 = alike(x, x0)
    g, a, b = g.contiguous(), a.float(), b.float()
    dx, dx0, sums = torch.empty_like(x), torch.empty_like(x), torch.empty(2)
    pointers = [tensor.data_ptr() for tensor in (g, x, x0, a, b, dx, dx0, sums)]
    _backward(*pointers, x.numel(), native.dtype_code(x))
    return dx, dx0, sums


def _fake_gradient(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(2, dtype=torch.float32)


def _differentiate(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    dx, dx0, sums = _gradient(g, x, x0, a, b)
    return dx, dx0, sums[0].to(a.dtype), sums[1].to(b.dtype)


_gradient = _kernel.operator(
    "gradient(Tensor g, Tensor x, Tensor x0, Tensor a, Tensor b) -> (Tensor, Tensor, Tensor)",
    _compute_gradient,
    _fake_gradient,
)
_mix = _kernel.operator(
    "mix(Tensor x, Tensor x0, Tensor a, Tensor b) -> Tensor",
    _compute,
    lambda x, x0, a, b: x.new_empty(x.shape),
    gradient=_differentiate,
)


def residual_mix(x: Tensor, x0: Tensor, resid_lambda: Tensor, x0_lambda: Tensor) -> Tensor:
    """y = resid_lambda·x + x0_lambda·x0; x, x0 (B,T,C) of one dtype, factors 0-dimensional; y contiguous, as x."""
    return _mix(x, x0, resid_lambda, x0_lambda)
