"""The scaled residual stream in MLX operations."""

import mlx.core as mx


def residual_mix(x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array) -> mx.array:
    """y = resid_lambda·x + x0_lambda·x0.

    x, x0 (B, T, C), one dtype; the two factors are () float32 with gradients, so that MLX computes in float32; y in
    x's dtype.
    """
    return (resid_lambda * x + x0_lambda * x0).astype(x.dtype)
