"""Root-mean-square normalisation in Triton: one pass over memory forward, one backward, float32 inside."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.triton_device import reciprocal_rms
from autoresearch_cuda.triton_kit import columns, rows_of, tile_grid

# TILE: elements that a program holds at once, as whole rows; a row longer than that is held alone.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((1024, 4), (1024, 2), (2048, 4), (2048, 8), (4096, 4), (4096, 8), (8192, 8))
]
_tuned = triton_kit.tuned(_CONFIGS, key=["width"])


@_tuned
@triton.jit
def _normalise_rows(x, y, rows, width, x_stride, eps, COLUMNS: tl.constexpr, TILE: tl.constexpr):
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    row = row.to(tl.int64)
    values = tl.load(x + row * x_stride + column, mask, other=0.0).to(tl.float32)
    reciprocal = reciprocal_rms(tl.sum(values * values, axis=1, keep_dims=True), width, eps)
    tl.store(y + row * width + column, (values * reciprocal).to(y.dtype.element_ty), mask)


@_tuned
@triton.jit
def _differentiate_rows(g, x, dx, rows, width, g_stride, x_stride, eps, COLUMNS: tl.constexpr, TILE: tl.constexpr):
    """With r = 1 / rms and y = x r: dx = r (g - y mean(g y)). Recomputing r costs nothing: the row is read anyway."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    row = row.to(tl.int64)
    values = tl.load(x + row * x_stride + column, mask, other=0.0).to(tl.float32)
    gradient = tl.load(g + row * g_stride + column, mask, other=0.0).to(tl.float32)
    reciprocal = reciprocal_rms(tl.sum(values * values, axis=1, keep_dims=True), width, eps)
    # In this order nothing overflows before the result would.
    share = tl.sum(gradient * values, axis=1, keep_dims=True) * reciprocal / width * reciprocal
    result = reciprocal * (gradient - values * share)
    tl.store(dx + row * width + column, result.to(dx.dtype.element_ty), mask)


def _compute(x: Tensor, eps: float) -> Tensor:
    y = x.new_empty(x.shape)
    if x.numel():
        matrix = rows_of(x)
        rows, width = matrix.shape
        _normalise_rows[tile_grid(rows)](matrix, y, rows, width, matrix.stride(0), eps, COLUMNS=columns(width))
    return y


def _compute_gradient(g: Tensor, x: Tensor, eps: float) -> Tensor:
    dx = x.new_empty(x.shape)
    if x.numel():
        g, x = rows_of(g), rows_of(x)
        rows, width = x.shape
        _differentiate_rows[tile_grid(rows)](
            g, x, dx, rows, width, g.stride(0), x.stride(0), eps, COLUMNS=columns(width)
        )  # fmt: skip
    return dx


_operators = triton_kit.operators(__file__)
_gradient = _operators.define(
    "gradient(Tensor g, Tensor x, float eps) -> Tensor",
    _compute_gradient,
    lambda g, x, eps: x.new_empty(x.shape),
)
_normalise = _operators.define(
    "normalise(Tensor x, float eps) -> Tensor",
    _compute,
    lambda x, eps: x.new_empty(x.shape),
    gradient=_gradient,
)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """y = x / sqrt(mean(x², last axis) + eps), x (..., C) float32, bfloat16 or float16; y contiguous, in x's dtype.

    Raises NotImplementedError for rows of more than 16384 elements.
    """
    return _normalise(x, eps)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's calls, a few rows each: the residual stream and the heads of queries and keys."""
    return [(torch.empty(rows, width, dtype=torch.bfloat16), 1e-6) for rows, width in ((4096, 512), (4096, 128))]
