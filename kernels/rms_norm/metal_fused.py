"""Root-mean-square normalisation in Metal: one pass over memory forward, one backward, float32 inside."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays, row_launch, rows_of

_kernels = metal_kit.kernels(__file__)


def _forward(x: mx.array, eps: float) -> mx.array:
    rows = rows_of(x)
    (y,) = _kernels.normalise(rows, eps, outputs=[(rows.shape, x.dtype)], **row_launch(*rows.shape), T=x.dtype)
    return y.reshape(x.shape)


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays, eps: float) -> list[mx.array]:
    (x,), (g,) = primals, cotangents
    rows = rows_of(x)
    (dx,) = _kernels.differentiate(
        rows_of(g), rows, eps, outputs=[(rows.shape, x.dtype)], **row_launch(*rows.shape), T=x.dtype
    )
    return [dx.reshape(x.shape)]


_normalise = metal_kit.Differentiable(_forward, _backward)


def rms_norm(x: mx.array, eps: float) -> mx.array:
    """y = x / sqrt(mean(x², last axis) + eps), x (..., C) float32, bfloat16 or float16; y in x's dtype."""
    return _normalise(x, eps=float(eps))
