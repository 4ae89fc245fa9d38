"""The gated value embedding in Metal: one pass forward and one backward; the gradient of v is the cotangent itself."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays, head_launch, rows_of

_kernels = metal_kit.kernels(__file__)


def _forward(v: mx.array, ve: mx.array, gate: mx.array) -> mx.array:
    if not v.shape == ve.shape == (*gate.shape, v.shape[-1]) or not v.dtype == ve.dtype == gate.dtype:
        shapes = ", ".join(f"{tuple(array.shape)} {array.dtype}" for array in (v, ve, gate))
        raise TypeError(f"v, ve and gate do not fit together: {shapes}")
    rows = rows_of(v)
    (y,) = _kernels.mix(
        rows, rows_of(ve), gate.reshape(-1), outputs=[(rows.shape, v.dtype)], **head_launch(*rows.shape), T=v.dtype
    )
    return y.reshape(v.shape)


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays) -> list[mx.array]:
    (v, ve, gate), (g,) = primals, cotangents
    rows = rows_of(g)
    dve, dgate = _kernels.differentiate(
        rows, rows_of(ve), gate.reshape(-1),
        outputs=[(rows.shape, ve.dtype), ((gate.size,), gate.dtype)], **head_launch(*rows.shape), T=ve.dtype,
    )  # fmt: skip
    return [g.astype(v.dtype), dve.reshape(ve.shape), dgate.reshape(gate.shape)]


_mix = metal_kit.Differentiable(_forward, _backward)


def value_gate(v: mx.array, ve: mx.array, gate: mx.array) -> mx.array:
    """y = v + 2·σ(gate)·ve, the gate being one number per head.

    v, ve (B, T, H, D); gate (B, T, H) before the sigmoid; all of one dtype: float32, bfloat16 or float16. Raises
    TypeError where shapes or dtypes do not fit.
    """
    return _mix(v, ve, gate)
