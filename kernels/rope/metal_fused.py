"""Rotary position embedding in Metal: one pass, float32 inside, views with strides read in place."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays

_kernels = metal_kit.kernels(__file__)


def _turn(x: mx.array, cos: mx.array, sin: mx.array, back: bool) -> mx.array:
    batch, time, heads, width = x.shape
    if width % 2 or not cos.shape == sin.shape == (1, time, 1, width // 2):
        raise ValueError(f"x {x.shape} does not fit cos {cos.shape} and sin {sin.shape}")
    (y,) = _kernels.rotate(
        x, cos, sin,
        outputs=[(x.shape, x.dtype)], grid=(width // 2, heads, batch * time), group=(64, 4, 1), T=x.dtype, BACK=back,
    )  # fmt: skip
    return y


def _forward(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    return _turn(x, cos, sin, False)


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays) -> list[mx.array | None]:
    _, cos, sin = primals
    return [_turn(cotangents[0], cos, sin, True), None, None]


_rotate = metal_kit.Differentiable(_forward, _backward)


def rope(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotate the pairs (i, i + D/2) of every head by minus the angle of their position.

    x (B, T, H, D) float32, bfloat16 or float16; cos, sin (1, T, 1, D/2), which get no gradients; y in x's dtype. Raises
    ValueError where the shapes do not fit.
    """
    return _rotate(x, cos, sin)
