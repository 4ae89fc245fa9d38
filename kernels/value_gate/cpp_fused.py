"""The gated value embedding in C++: one pass forward and one backward; the gradient of v is the cotangent itself."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER

_kernel = native.load(__file__)
_forward = _kernel.function("value_gate_forward", *[POINTER] * 4, INTEGER, INTEGER, CODE)
_backward = _kernel.function("value_gate_backward", *[POINTER] * 5, INTEGER, INTEGER, CODE)


def _compute(v: Tensor, ve: Tensor, gate: Tensor) -> Tensor:
    if not v.shape == ve.shape == (*gate.shape, v.shape[-1]) or not v.dtype == ve.dtype == gate.dtype:
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in (v, ve, gate))
        raise TypeError(f"v, ve and gate do not fit together: {shapes}")
    v, ve, gate = v.contiguous(), ve.contiguous(), gate.contiguous()
    y = torch.empty_like(v)
    pointers = [tensor.data_ptr() for tensor in (v, ve, gate, y)]
    _forward(*pointers, gate.numel(), v.shape[-1], native.dtype_code(v))
    return y


def _compute_gradient(g: Tensor, ve: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    g, ve, gate = g.contiguous(), ve.contiguous(), gate.contiguous()
    dve, dgate = torch.empty_like(ve), torch.empty_like(gate)
    pointers = [tensor.data_ptr() for tensor in (g, ve, gate, dve, dgate)]
    _backward(*pointers, gate.numel(), ve.shape[-1], native.dtype_code(ve))
    return dve, dgate


def _differentiate(g: Tensor, ve: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
    return g, *_gradient(g, ve, gate)


_gradient = _kernel.operator(
    "gradient(Tensor g, Tensor ve, Tensor gate) -> (Tensor, Tensor)",
    _compute_gradient,
    lambda g, ve, gate: (ve.new_empty(ve.shape), gate.new_empty(gate.shape)),
)
_mix = _kernel.operator(
    "mix(Tensor v, Tensor ve, Tensor gate) -> Tensor",
    _compute,
    lambda v, ve, gate: v.new_empty(v.shape),
    gradient=_differentiate,
)


def value_gate(v: Tensor, ve: Tensor, gate: Tensor) -> Tensor:
    """y = v + 2·σ(gate)·ve; v, ve (B,T,H,D), gate (B,T,H), one dtype; y contiguous. Raises TypeError for a misfit."""
    return _mix(v, ve, gate)
