"""Rotary position embedding in Triton: one pass, float32 inside, views with strides read in place."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.triton_device import head_offset, rotate
from autoresearch_cuda.triton_kit import columns, tile_grid

# TILE: elements of either half that a program holds at once, as whole heads.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((512, 2), (1024, 2), (1024, 4), (2048, 4), (2048, 8), (4096, 8))
]


@triton_kit.tuned(_CONFIGS, key=["half"])
@triton.jit
def _rotate_heads(
    x, cos, sin, y, rows, length, heads, half, batch_stride, position_stride, head_stride,
    BACK: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """BACK: by theta instead of minus theta."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < half)
    angle = (row // heads % length) * half + column
    c = tl.load(cos + angle, mask, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask, other=0.0).to(tl.float32)
    if BACK:
        s = -s
    source = x + head_offset(row, length, heads, batch_stride, position_stride, head_stride) + column
    first = tl.load(source, mask, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask, other=0.0).to(tl.float32)
    turned_first, turned_second = rotate(first, second, c, s)
    place = y + row.to(tl.int64) * (2 * half) + column
    tl.store(place, turned_first.to(y.dtype.element_ty), mask)
    tl.store(place + half, turned_second.to(y.dtype.element_ty), mask)


def _compute(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    batch, length, heads, width = x.shape
    half = width // 2
    if width % 2 or cos.shape != (1, length, 1, half) or sin.shape != cos.shape:
        raise ValueError(f"x {tuple(x.shape)} does not fit cos {tuple(cos.shape)} and sin {tuple(sin.shape)}")
    y = x.new_empty(x.shape)
    if x.numel():
        x = x if x.stride(3) == 1 else x.contiguous()
        cos, sin, rows = cos.contiguous(), sin.contiguous(), batch * length * heads
        _rotate_heads[tile_grid(rows)](
            x, cos, sin, y, rows, length, heads, half, *x.stride()[:3], BACK=back, COLUMNS=columns(half)
        )  # fmt: skip
    return y


def _backward(g: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    return _rotated(g, cos, sin, not back)


_rotated = triton_kit.operators(__file__).define(
    "rotate(Tensor x, Tensor cos, Tensor sin, bool back) -> Tensor",
    _compute,
    lambda x, cos, sin, back: x.new_empty(x.shape),
    gradient=_backward,
)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """y1 = x1·cos + x2·sin, y2 = x2·cos − x1·sin on the halves of the last axis.

    x (B,T,H,D) with any strides, cos and sin (1,T,1,D/2) without gradients; y contiguous, in x's dtype. Raises
    ValueError for shapes that do not fit.
    """
    return _rotated(x, cos, sin, False)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows: queries or keys."""
    angles = torch.empty(2, 1, 2048, 1, 64, dtype=torch.bfloat16)
    return [(torch.empty(2, 2048, 4, 128, dtype=torch.bfloat16), angles[0], angles[1])]
