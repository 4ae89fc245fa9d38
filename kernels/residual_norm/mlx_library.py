"""The scaled residual stream fused by mx.compile, and MLX's own RMS norm."""

import mlx.core as mx


@mx.compile
def _mixed(x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array) -> mx.array:
    return (resid_lambda * x + x0_lambda * x0).astype(x.dtype)


def residual_norm(
    x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """x, x0 (B, T, C), factors () float32; the mixed stream and its norm, in x's dtype."""
    x = _mixed(x, x0, resid_lambda, x0_lambda)
    return x, mx.fast.rms_norm(x, None, eps)
