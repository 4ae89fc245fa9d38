"""The scaled residual stream and its norm, by the smaller targets' kernels."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

residual_mix, rms_norm = part("residual_mix"), part("rms_norm")


def residual_norm(
    x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """(resid_lambda·x + x0_lambda·x0, rms_norm of that).

    x, x0 (B, T, C), one dtype; the two factors are () float32 with gradients; results in x's dtype.
    """
    x = residual_mix(x, x0, resid_lambda, x0_lambda)
    return x, rms_norm(x, eps)
