"""The scaled residual stream and its norm in C++: one pass forward, and one backward for all four gradients."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REAL
from autoresearch_cuda.operators import alike

_kernel = native.load(__file__)
_forward = _kernel.function("residual_norm_forward", *[POINTER] * 6, INTEGER, INTEGER, REAL, CODE)
_backward = _kernel.function("residual_norm_backward", *[POINTER] * 9, INTEGER, INTEGER, REAL, CODE)


def _call(function, eps: float, *arrays: Tensor) -> None:
    first = arrays[0]
    width = first.shape[-1]
    rows = first.numel() // width if width else 0
    function(*[x.data_ptr() for x in arrays], rows, width, eps, native.dtype_code(first))


def _compute(x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x, x0 = alike(x, x0)
    mixed, normed = torch.empty_like(x), torch.empty_like(x)
    _call(_forward, eps, x, x0, a.float(), b.float(), mixed, normed)
    return mixed, normed


def _compute_gradient(
    gm: Tensor, gn: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dx0, and both factors' gradients as one float32 array of two."""
    x, x0 = alike(x, x0)
    gm, gn = gm.contiguous(), gn.contiguous()
    dx, dx0, sums = torch.empty_like(x), torch.empty_like(x), torch.empty(2)
    _call(_backward, eps, gm, gn, x, x0, a.float(), b.float(), dx, dx0, sums)
    return dx, dx0, sums


def _fake_gradient(gm: Tensor, gn: Tensor, x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(2, dtype=torch.float32)


def _differentiate(
    gm: Tensor, gn: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float
) -> tuple[Tensor, ...]:
    dx, dx0, sums = _gradient(gm, gn, x, x0, a, b, eps)
    return dx, dx0, sums[0].to(a.dtype), sums[1].to(b.dtype)


_gradient = _kernel.operator(
    "gradient(Tensor gm, Tensor gn, Tensor x, Tensor x0, Tensor a, Tensor b, float eps) -> (Tensor, Tensor, Tensor)",
    _compute_gradient,
    _fake_gradient,
)
_mix = _kernel.operator(
    "mix(Tensor x, Tensor x0, Tensor a, Tensor b, float eps) -> (Tensor, Tensor)",
    _compute,
    lambda x, x0, a, b, eps: (x.new_empty(x.shape), x.new_empty(x.shape)),
    gradient=_differentiate,
)


def residual_norm(x: Tensor, x0: Tensor, resid_lambda: Tensor, x0_lambda: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(resid_lambda·x + x0_lambda·x0, rms_norm of that); x, x0 (B,T,C) of one dtype, factors 0-dimensional.

    Results contiguous, as x. Raises TypeError where x and x0 differ in shape or dtype.
    """
    return _mix(x, x0, resid_lambda, x0_lambda, eps)
