"""One AdamW step in Triton (Loshchilov and Hutter, arXiv 1711.05101): one pass over the four arrays, float32 inside."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import write_back
from autoresearch_cuda.triton_kit import blocks

_CONFIGS = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((2048, 4), (4096, 8), (4096, 4))]


@triton_kit.tuned(_CONFIGS, key=["count"], restore_value=["p", "exp_avg", "exp_avg_sq"])
@triton.jit
def _update(
    p, grad, exp_avg, exp_avg_sq, count, shrink, beta1, rest1, beta2, rest2, step_size, correction, eps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """rest = 1 − beta, from the host's double precision; the square root and the quotient are correctly rounded, which
    costs nothing beside the memory traffic."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gradient = tl.load(grad + at, inside, other=0.0).to(tl.float32)
    first = tl.load(exp_avg + at, inside, other=0.0).to(tl.float32) * beta1 + gradient * rest1
    second = tl.load(exp_avg_sq + at, inside, other=0.0).to(tl.float32) * beta2 + gradient * gradient * rest2
    denominator = tl.sqrt_rn(second * correction) + eps
    weight = tl.load(p + at, inside, other=0.0).to(tl.float32) * shrink - tl.div_rn(step_size * first, denominator)
    tl.store(p + at, weight.to(p.dtype.element_ty), inside)
    tl.store(exp_avg + at, first.to(exp_avg.dtype.element_ty), inside)
    tl.store(exp_avg_sq + at, second.to(exp_avg_sq.dtype.element_ty), inside)


def _compute(p: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, factors: list[float]) -> None:
    if not grad.dtype == exp_avg.dtype == exp_avg_sq.dtype == p.dtype:
        raise TypeError("p, grad and both moments must have one dtype")
    if not p.numel():
        return
    states = (p, exp_avg, exp_avg_sq)
    # An in-place result for a strided array is worked out in a contiguous copy.
    dense_p, dense_avg, dense_sq = dense = [state.contiguous() for state in states]
    count = p.numel()
    _update[blocks(count, "BLOCK")](dense_p, grad.contiguous(), dense_avg, dense_sq, count, *factors)
    write_back(states, dense)


_operators = triton_kit.operators(__file__)
_operator = _operators.define(
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


def compile_cases() -> list[tuple[Any, ...]]:
    """The head's float32 weights and a bfloat16 table."""
    settings = (3, 0.01, 0.8, 0.95, 1e-10, 0.0)
    return [
        (*(torch.empty(8192, 512, dtype=dtype) for _ in range(4)), *settings)
        for dtype in (torch.float32, torch.bfloat16)
    ]
