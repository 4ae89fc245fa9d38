"""One AdamW step in C++ (Loshchilov and Hutter, arXiv 1711.05101): one pass over the four arrays, float32 inside."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REALS, reals
from autoresearch_cuda.operators import write_back

_kernel = native.load(__file__)
_update = _kernel.function("adamw_update", *[POINTER] * 4, INTEGER, REALS, CODE)


def _compute(p: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, factors: list[float]) -> None:
    if not grad.dtype == exp_avg.dtype == exp_avg_sq.dtype == p.dtype:
        raise TypeError("p, grad and both moments must have one dtype")
    states = (p, exp_avg, exp_avg_sq)
    # An in-place result for a strided array is worked out in a contiguous copy.
    dense_p, dense_avg, dense_sq = dense = [state.contiguous() for state in states]
    grad = grad.contiguous()
    _update(
        dense_p.data_ptr(),
        grad.data_ptr(),
        dense_avg.data_ptr(),
        dense_sq.data_ptr(),
        p.numel(),
        reals(factors),
        native.dtype_code(p),
    )
    write_back(states, dense)


_operator = _kernel.operator(
    "update(Tensor(a!) p, Tensor grad, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, float[] factors) -> ()",
    _compute,
    lambda p, grad, exp_avg, exp_avg_sq, factors: None,
)


@torch.no_grad()
def adamw_update(
    p: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update p and both moments in place and return them.

    All four of one shape and one dtype (float32, bfloat16 or float16); `step` counts from 1.
    """
    rates = [beta1, 1 - beta1, beta2, 1 - beta2]
    factors = [1 - lr * weight_decay, *rates, lr / (1 - beta1**step), 1 / (1 - beta2**step), eps]
    _operator(p, grad, exp_avg, exp_avg_sq, factors)
    return p, exp_avg, exp_avg_sq
