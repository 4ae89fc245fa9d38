"""The scaled residual stream, fused by mx.compile."""

import mlx.core as mx


@mx.compile
def _fused(x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array) -> mx.array:
    return (resid_lambda * x + x0_lambda * x0).astype(x.dtype)


def residual_mix(x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array) -> mx.array:
    """y = resid_lambda·x + x0_lambda·x0; x, x0 (B, T, C), factors () float32; y in x's dtype."""
    return _fused(x, x0, resid_lambda, x0_lambda)
