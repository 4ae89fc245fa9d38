"""The scaled residual stream in Triton: one pass forward, and one backward for all four gradients.

The gradients of the two factors are sums over everything: every program leaves its share, and the shares are added in a
fixed order, so that the same arguments give the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import alike
from autoresearch_cuda.triton_kit import blocks

# TILE: elements per program.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((1024, 4), (1024, 2), (2048, 4), (4096, 4), (4096, 8), (8192, 8))
]
_LEAST_TILE = min(config.kwargs["TILE"] for config in _CONFIGS)


@triton_kit.tuned(_CONFIGS, key=["size"])
@triton.jit
def _mix(x, x0, a, b, y, size, TILE: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    mask = place < size
    stream = tl.load(x + place, mask).to(tl.float32)
    start = tl.load(x0 + place, mask).to(tl.float32)
    mixed = tl.load(a).to(tl.float32) * stream + tl.load(b).to(tl.float32) * start
    tl.store(y + place, mixed.to(y.dtype.element_ty), mask)


# Configurations with larger tiles leave fewer shares than the ones tried before them.
@triton_kit.tuned(_CONFIGS, key=["size"], reset_to_zero=["shares"])
@triton.jit
def _differentiate(g, x, x0, a, b, dx, dx0, shares, count, size, TILE: tl.constexpr):
    """shares (2, count): one of each factor's gradient per program."""
    program = tl.program_id(0).to(tl.int64)
    place = program * TILE + tl.arange(0, TILE)
    mask = place < size
    gradient = tl.load(g + place, mask, other=0.0).to(tl.float32)
    stream = tl.load(x + place, mask, other=0.0).to(tl.float32)
    start = tl.load(x0 + place, mask, other=0.0).to(tl.float32)
    tl.store(dx + place, (tl.load(a).to(tl.float32) * gradient).to(dx.dtype.element_ty), mask)
    tl.store(dx0 + place, (tl.load(b).to(tl.float32) * gradient).to(dx0.dtype.element_ty), mask)
    tl.store(shares + program, tl.sum(gradient * stream, axis=0))
    tl.store(shares + count + program, tl.sum(gradient * start, axis=0))


def _compute(x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> Tensor:
    x, x0 = alike(x, x0)
    y = torch.empty_like(x)
    if size := x.numel():
        _mix[blocks(size)](x, x0, a, b, y, size)
    return y


def _compute_gradient(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dx0, and both factors' gradients as one float32 array of two."""
    x, x0 = alike(x, x0)
    g = g.contiguous()
    size = x.numel()
    dx, dx0 = torch.empty_like(x), torch.empty_like(x)
    shares = torch.zeros(2, triton.cdiv(size, _LEAST_TILE), dtype=torch.float32, device=x.device)
    if size:
        _differentiate[blocks(size)](g, x, x0, a, b, dx, dx0, shares, shares.shape[1], size)
    return dx, dx0, shares.sum(1)


def _fake_gradient(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(2, dtype=torch.float32)


def _backward(g: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    dx, dx0, sums = _gradient_of(g, x, x0, a, b)
    return dx, dx0, sums[0].to(a.dtype), sums[1].to(b.dtype)


_operators = triton_kit.operators(__file__)
_gradient_of = _operators.define(
    "gradient(Tensor g, Tensor x, Tensor x0, Tensor a, Tensor b) -> (Tensor, Tensor, Tensor)",
    _compute_gradient,
    _fake_gradient,
)
_mix_of = _operators.define(
    "mix(Tensor x, Tensor x0, Tensor a, Tensor b) -> Tensor",
    _compute,
    lambda x, x0, a, b: x.new_empty(x.shape),
    gradient=_backward,
)


def residual_mix(x: Tensor, x0: Tensor, resid_lambda: Tensor, x0_lambda: Tensor) -> Tensor:
    """y = resid_lambda·x + x0_lambda·x0; x, x0 (B,T,C) of one dtype, factors 0-dimensional; y contiguous, as x.

    Raises TypeError where x and x0 differ in shape or dtype.
    """
    return _mix_of(x, x0, resid_lambda, x0_lambda)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows."""
    x, x0 = (torch.empty(2, 2048, 512, dtype=torch.bfloat16) for _ in range(2))
    return [(x, x0, torch.tensor(1.0), torch.tensor(0.1))]
