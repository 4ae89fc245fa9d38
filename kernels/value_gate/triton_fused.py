"""The gated value embedding in Triton: one pass forward and one backward; the gradient of v is the cotangent itself."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.triton_kit import columns, rows_of, tile_grid

# TILE: elements that a program holds at once, as whole heads.
_CONFIGS = [
    triton.Config({"TILE": tile}, num_warps=warps)
    for tile, warps in ((1024, 4), (1024, 2), (2048, 4), (2048, 8), (4096, 4), (4096, 8))
]
_tuned = triton_kit.tuned(_CONFIGS, key=["width"])


@_tuned
@triton.jit
def _mix(v, ve, gate, y, rows, width, v_stride, ve_stride, COLUMNS: tl.constexpr, TILE: tl.constexpr):
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    head = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row, column = head.to(tl.int64)[:, None], tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    opened = 2.0 * tl.sigmoid(tl.load(gate + head, head < rows, other=0.0).to(tl.float32))[:, None]
    value = tl.load(v + row * v_stride + column, mask).to(tl.float32)
    embedded = tl.load(ve + row * ve_stride + column, mask).to(tl.float32)
    tl.store(y + row * width + column, (value + opened * embedded).to(y.dtype.element_ty), mask)


@_tuned
@triton.jit
def _differentiate(
    g, ve, gate, dve, dgate, rows, width, g_stride, ve_stride, COLUMNS: tl.constexpr, TILE: tl.constexpr
):
    """With s = sigmoid(gate): dve = 2 s g, dgate = 2 s (1 - s) sum(g ve)."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    head = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row, column = head.to(tl.int64)[:, None], tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < width)
    s = tl.sigmoid(tl.load(gate + head, head < rows, other=0.0).to(tl.float32))
    gradient = tl.load(g + row * g_stride + column, mask, other=0.0).to(tl.float32)
    embedded = tl.load(ve + row * ve_stride + column, mask, other=0.0).to(tl.float32)
    tl.store(dve + row * width + column, (2.0 * s[:, None] * gradient).to(dve.dtype.element_ty), mask)
    through = 2.0 * s * (1.0 - s) * tl.sum(gradient * embedded, axis=1)
    tl.store(dgate + head, through.to(dgate.dtype.element_ty), head < rows)


def _compute(v: Tensor, ve: Tensor, gate: Tensor) -> Tensor:
    if not v.shape == ve.shape == (*gate.shape, v.shape[-1]) or not v.dtype == ve.dtype == gate.dtype:
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in (v, ve, gate))
        raise TypeError(f"v, ve and gate do not fit together: {shapes}")
    y = v.new_empty(v.shape)
    if v.numel():
        v, ve, gate = rows_of(v), rows_of(ve), gate.contiguous()
        rows, width = v.shape
        _mix[tile_grid(rows)](v, ve, gate, y, rows, width, v.stride(0), ve.stride(0), COLUMNS=columns(width))
    return y


def _compute_gradient(g: Tensor, ve: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    dve, dgate = ve.new_empty(ve.shape), gate.new_empty(gate.shape)
    if ve.numel():
        g, ve, gate = rows_of(g), rows_of(ve), gate.contiguous()
        rows, width = ve.shape
        _differentiate[tile_grid(rows)](
            g, ve, gate, dve, dgate, rows, width, g.stride(0), ve.stride(0), COLUMNS=columns(width)
        )  # fmt: skip
    return dve, dgate


def _backward(g: Tensor, ve: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
    return g, *_gradient_of(g, ve, gate)


_operators = triton_kit.operators(__file__)
_gradient_of = _operators.define(
    "gradient(Tensor g, Tensor ve, Tensor gate) -> (Tensor, Tensor)",
    _compute_gradient,
    lambda g, ve, gate: (ve.new_empty(ve.shape), gate.new_empty(gate.shape)),
)
_mix_of = _operators.define(
    "mix(Tensor v, Tensor ve, Tensor gate) -> Tensor",
    _compute,
    lambda v, ve, gate: v.new_empty(v.shape),
    gradient=_backward,
)


def value_gate(v: Tensor, ve: Tensor, gate: Tensor) -> Tensor:
    """y = v + 2·σ(gate)·ve; v, ve (B,T,H,D), gate (B,T,H), one dtype; y contiguous. Raises TypeError for a misfit."""
    return _mix_of(v, ve, gate)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, a few rows."""
    shape = (2, 2048, 4, 128)
    v, ve = (torch.empty(shape, dtype=torch.bfloat16) for _ in range(2))
    return [(v, ve, torch.empty(shape[:3], dtype=torch.bfloat16))]
