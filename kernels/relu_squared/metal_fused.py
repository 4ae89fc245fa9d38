"""Squared ReLU in Metal: one pass forward and one backward; backward needs x only, no intermediate is kept."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays, flat_launch

_kernels = metal_kit.kernels(__file__)


def _forward(x: mx.array) -> mx.array:
    flat = x.reshape(-1)
    (y,) = _kernels.square(flat, outputs=[(flat.shape, x.dtype)], **flat_launch(x.size), T=x.dtype)
    return y.reshape(x.shape)


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays) -> list[mx.array]:
    (x,), (g,) = primals, cotangents
    flat = x.reshape(-1)
    (dx,) = _kernels.differentiate(
        g.reshape(-1), flat, outputs=[(flat.shape, x.dtype)], **flat_launch(x.size), T=x.dtype
    )
    return [dx.reshape(x.shape)]


_square = metal_kit.Differentiable(_forward, _backward)


def relu_squared(x: mx.array) -> mx.array:
    """y = max(x, 0)², elementwise; x float32, bfloat16 or float16 of any shape; y has x's shape and dtype."""
    return _square(x)
