"""Root-mean-square normalisation written out in MLX operations."""

import mlx.core as mx


def rms_norm(x: mx.array, eps: float) -> mx.array:
    """y = x / sqrt(mean(x², last axis) + eps), without a weight.

    x (..., D), any float dtype. The mean square and the product are computed in float32; y has x's dtype.
    """
    xf = x.astype(mx.float32)
    return (xf * mx.rsqrt(xf.square().mean(-1, keepdims=True) + eps)).astype(x.dtype)
