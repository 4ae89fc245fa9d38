"""The scaled residual stream and its norm in Triton: one pass forward, and one backward for all four gradients.

The norm is that of the exact stream, before it is rounded; backward mixes again instead of keeping it. The gradients of
the two factors are sums over everything: every program leaves its share, and the shares are added in a fixed order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import alike
from autoresearch_cuda.triton_device import reciprocal_rms
from autoresearch_cuda.triton_kit import columns, tile_grid

# TILE: elements that a program holds at once, as whole rows; a row longer than that is held alone.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((512, 2), (1024, 2), (1024, 4), (2048, 4), (2048, 8), (4096, 8))
]


@triton_kit.tuned(_CONFIGS, key=["width"])
@triton.jit
def _mix_and_norm(x, x0, a, b, mixed, normed, rows, width, eps, COLUMNS: tl.constexpr, TILE: tl.constexpr):
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    place = row.to(tl.int64) * width + column
    stream = tl.load(x + place, mask, other=0.0).to(tl.float32)
    start = tl.load(x0 + place, mask, other=0.0).to(tl.float32)
    values = tl.load(a).to(tl.float32) * stream + tl.load(b).to(tl.float32) * start
    reciprocal = reciprocal_rms(tl.sum(values * values, axis=1, keep_dims=True), width, eps)
    tl.store(mixed + place, values.to(mixed.dtype.element_ty), mask)
    tl.store(normed + place, (values * reciprocal).to(normed.dtype.element_ty), mask)


# Configurations with larger tiles leave fewer shares than the ones tried before them.
@triton_kit.tuned(_CONFIGS, key=["width"], reset_to_zero=["shares"])
@triton.jit
def _differentiate(
    gm, gn, x, x0, a, b, dx, dx0, shares, count, rows, width, eps, COLUMNS: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """shares (2, count): one of each factor's gradient per program.

    The stream's cotangent is its own, gm, and what comes back through the norm from gn."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    program = tl.program_id(0)
    row = program * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    place = row.to(tl.int64) * width + column
    stream = tl.load(x + place, mask, other=0.0).to(tl.float32)
    start = tl.load(x0 + place, mask, other=0.0).to(tl.float32)
    resid, back = tl.load(a).to(tl.float32), tl.load(b).to(tl.float32)
    values = resid * stream + back * start
    reciprocal = reciprocal_rms(tl.sum(values * values, axis=1, keep_dims=True), width, eps)
    gradient = tl.load(gn + place, mask, other=0.0).to(tl.float32)
    # In this order nothing overflows before the result would.
    share = tl.sum(gradient * values, axis=1, keep_dims=True) * reciprocal / width * reciprocal
    total = tl.load(gm + place, mask, other=0.0).to(tl.float32) + reciprocal * (gradient - values * share)
    tl.store(dx + place, (resid * total).to(dx.dtype.element_ty), mask)
    tl.store(dx0 + place, (back * total).to(dx0.dtype.element_ty), mask)
    total = tl.where(mask, total, 0.0)
    tl.store(shares + program, tl.sum(tl.sum(total * stream, axis=1), axis=0))
    tl.store(shares + count + program, tl.sum(tl.sum(total * start, axis=1), axis=0))


def _compute(x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x, x0 = alike(x, x0)
    mixed, normed = torch.empty_like(x), torch.empty_like(x)
    if x.numel():
        width = x.shape[-1]
        rows = x.numel() // width
        _mix_and_norm[tile_grid(rows)](x, x0, a, b, mixed, normed, rows, width, eps, COLUMNS=columns(width))
    return mixed, normed


def _compute_gradient(
    gm: Tensor, gn: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dx0, and both factors' gradients as one float32 array of two."""
    x, x0 = alike(x, x0)
    gm, gn = gm.contiguous(), gn.contiguous()
    dx, dx0 = torch.empty_like(x), torch.empty_like(x)
    width = x.shape[-1]
    rows = x.numel() // width if width else 0
    # One share for each row at most: the smallest tile may hold a single one.
    shares = torch.zeros(2, rows, dtype=torch.float32, device=x.device)
    if rows:
        _differentiate[tile_grid(rows)](
            gm, gn, x, x0, a, b, dx, dx0, shares, rows, rows, width, eps, COLUMNS=columns(width)
        )  # fmt: skip
    return dx, dx0, shares.sum(1)


def _fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


def _fake_gradient(gm: Tensor, gn: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(2, dtype=torch.float32)


def _backward(gm: Tensor, gn: Tensor, x: Tensor, x0: Tensor, a: Tensor, b: Tensor, eps: float) -> tuple[Tensor, ...]:
    dx, dx0, sums = _gradient_of(gm, gn, x, x0, a, b, eps)
    return dx, dx0, sums[0].to(a.dtype), sums[1].to(b.dtype)


_operators = triton_kit.operators(__file__)
_gradient_of = _operators.define(
    "gradient(Tensor gm, Tensor gn, Tensor x, Tensor x0, Tensor a, Tensor b, float eps) -> (Tensor, Tensor, Tensor)",
    _compute_gradient,
    _fake_gradient,
)
_mix = _operators.define(
    "mix(Tensor x, Tensor x0, Tensor a, Tensor b, float eps) -> (Tensor, Tensor)",
    _compute,
    _fake,
    gradient=_backward,
)


def residual_norm(x: Tensor, x0: Tensor, resid_lambda: Tensor, x0_lambda: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(resid_lambda·x + x0_lambda·x0, rms_norm of that); x, x0 (B,T,C) of one dtype, factors 0-dimensional.

    Results contiguous, as x. Raises TypeError where x and x0 differ in shape or dtype.
    """
    return _mix(x, x0, resid_lambda, x0_lambda, eps)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows."""
    x, x0 = (torch.empty(2, 2048, 512, dtype=torch.bfloat16) for _ in range(2))
    return [(x, x0, torch.tensor(1.0), torch.tensor(0.1), 1e-6)]
