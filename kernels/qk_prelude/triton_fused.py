"""Rotation and normalisation of queries and keys in Triton: one pass over each forward, and one backward.

What is between rotation and norm stays in registers, in float32; backward rotates again instead of keeping it.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.triton_device import head_offset, reciprocal_rms, rotate
from autoresearch_cuda.triton_kit import columns, tile_grid

# TILE: elements of either half that a program holds at once, as whole heads.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((512, 2), (1024, 2), (1024, 4), (2048, 4), (2048, 8))
]
_tuned = triton_kit.tuned(_CONFIGS, key=["half"])


@_tuned
@triton.jit
def _prepare(
    x, cos, sin, y, rows, length, heads, half, batch_stride, position_stride, head_stride, eps,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < half)
    angle = (row // heads % length) * half + column
    c = tl.load(cos + angle, mask, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask, other=0.0).to(tl.float32)
    source = x + head_offset(row, length, heads, batch_stride, position_stride, head_stride) + column
    first = tl.load(source, mask, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask, other=0.0).to(tl.float32)
    first, second = rotate(first, second, c, s)
    reciprocal = reciprocal_rms(tl.sum(first * first + second * second, axis=1, keep_dims=True), 2 * half, eps)
    place = y + row.to(tl.int64) * (2 * half) + column
    tl.store(place, (first * reciprocal).to(y.dtype.element_ty), mask)
    tl.store(place + half, (second * reciprocal).to(y.dtype.element_ty), mask)


@_tuned
@triton.jit
def _differentiate(
    g, x, cos, sin, dx, rows, length, heads, half, batch_stride, position_stride, head_stride, eps,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """With z the rotated head and r = 1 / rms: dz = r (g - z r² mean(g z)), and dx is dz rotated back. g contiguous."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < half)
    angle = (row // heads % length) * half + column
    c = tl.load(cos + angle, mask, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask, other=0.0).to(tl.float32)
    source = x + head_offset(row, length, heads, batch_stride, position_stride, head_stride) + column
    first = tl.load(source, mask, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask, other=0.0).to(tl.float32)
    place = row.to(tl.int64) * (2 * half) + column
    g_first = tl.load(g + place, mask, other=0.0).to(tl.float32)
    g_second = tl.load(g + place + half, mask, other=0.0).to(tl.float32)
    first, second = rotate(first, second, c, s)
    reciprocal = reciprocal_rms(tl.sum(first * first + second * second, axis=1, keep_dims=True), 2 * half, eps)
    products = tl.sum(g_first * first + g_second * second, axis=1, keep_dims=True)
    # In this order nothing overflows before the result would.
    share = products * reciprocal / (2 * half) * reciprocal
    d_first, d_second = reciprocal * (g_first - first * share), reciprocal * (g_second - second * share)
    d_first, d_second = rotate(d_first, d_second, c, -s)
    tl.store(dx + place, d_first.to(dx.dtype.element_ty), mask)
    tl.store(dx + place + half, d_second.to(dx.dtype.element_ty), mask)


def _launch(kernel: Any, x: Tensor, cos: Tensor, sin: Tensor, eps: float, out: Tensor, *before: Tensor) -> None:
    """Run a kernel over the heads of x into `out`; `before` are the arguments that come first."""
    batch, length, heads, width = x.shape
    half = width // 2
    if width % 2 or cos.shape != (1, length, 1, half) or sin.shape != cos.shape:
        raise ValueError(f"heads {tuple(x.shape)} do not fit cos {tuple(cos.shape)} and sin {tuple(sin.shape)}")
    if x.numel():
        x = x if x.stride(3) == 1 else x.contiguous()
        rows = batch * length * heads
        kernel[tile_grid(rows)](
            *before, x, cos.contiguous(), sin.contiguous(), out, rows, length, heads, half, *x.stride()[:3], eps,
            COLUMNS=columns(half),
        )  # fmt: skip


def _compute(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    results = q.new_empty(q.shape), k.new_empty(k.shape)
    for x, y in zip((q, k), results, strict=True):
        _launch(_prepare, x, cos, sin, eps, y)
    return results


def _compute_gradients(
    gq: Tensor, gk: Tensor, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    results = q.new_empty(q.shape), k.new_empty(k.shape)
    for g, x, dx in zip((gq, gk), (q, k), results, strict=True):
        _launch(_differentiate, x, cos, sin, eps, dx, g.contiguous())
    return results


_operators = triton_kit.operators(__file__)
_gradients = _operators.define(
    "gradients(Tensor gq, Tensor gk, Tensor q, Tensor k, Tensor cos, Tensor sin, float eps) -> (Tensor, Tensor)",
    _compute_gradients,
    lambda gq, gk, q, k, cos, sin, eps: (q.new_empty(q.shape), k.new_empty(k.shape)),
)
_prepared = _operators.define(
    "prepare(Tensor q, Tensor k, Tensor cos, Tensor sin, float eps) -> (Tensor, Tensor)",
    _compute,
    lambda q, k, cos, sin, eps: (q.new_empty(q.shape), k.new_empty(k.shape)),
    gradient=_gradients,
)


def qk_prelude(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """rms_norm(rope(·), eps) of both.

    q (B,T,H,D), k (B,T,K,D) with any strides; cos, sin (1,T,1,D/2) without gradients; results contiguous, in the dtypes
    of q and k. Raises ValueError for shapes that do not fit.
    """
    return _prepared(q, k, cos, sin, eps)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows."""
    q, k = (torch.empty(2, 2048, 4, 128, dtype=torch.bfloat16) for _ in range(2))
    angles = torch.empty(2, 1, 2048, 1, 64, dtype=torch.bfloat16)
    return [(q, k, angles[0], angles[1], 1e-6)]
