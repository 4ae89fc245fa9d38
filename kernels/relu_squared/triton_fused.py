"""Squared ReLU in Triton: one pass forward and one backward; backward needs x only, no intermediate is kept."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.triton_kit import blocks

# TILE: elements per program.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((1024, 4), (1024, 2), (2048, 4), (4096, 4), (4096, 8), (8192, 8))
]
_tuned = triton_kit.tuned(_CONFIGS, key=["size"])


@_tuned
@triton.jit
def _square(x, y, size, TILE: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    mask = place < size
    values = tl.load(x + place, mask).to(tl.float32)
    # In this form NaN stays NaN.
    tl.store(y + place, tl.where(values <= 0.0, 0.0, values * values).to(y.dtype.element_ty), mask)


@_tuned
@triton.jit
def _differentiate(g, x, dx, size, TILE: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    mask = place < size
    values = tl.load(x + place, mask).to(tl.float32)
    gradient = tl.load(g + place, mask).to(tl.float32)
    tl.store(dx + place, (tl.where(values <= 0.0, 0.0, 2.0 * values) * gradient).to(dx.dtype.element_ty), mask)


def _compute(x: Tensor) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    if size := x.numel():
        _square[blocks(size)](x, y, size)
    return y


def _compute_gradient(g: Tensor, x: Tensor) -> Tensor:
    g, x = g.contiguous(), x.contiguous()
    dx = torch.empty_like(x)
    if size := x.numel():
        _differentiate[blocks(size)](g, x, dx, size)
    return dx


_operators = triton_kit.operators(__file__)
_gradient_of = _operators.define(
    "gradient(Tensor g, Tensor x) -> Tensor", _compute_gradient, lambda g, x: x.new_empty(x.shape)
)
_square_of = _operators.define(
    "square(Tensor x) -> Tensor", _compute, lambda x: x.new_empty(x.shape), gradient=_gradient_of
)


def relu_squared(x: Tensor) -> Tensor:
    """y = max(x, 0)², x of any shape in float32, bfloat16 or float16; y contiguous, in x's dtype."""
    return _square_of(x)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows: the hidden layer of the MLP."""
    return [(torch.empty(4096, 2048, dtype=torch.bfloat16),)]
