"""Rotation and normalisation of queries and keys, by the smaller targets' kernels."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

rope, rms_norm = part("rope"), part("rms_norm")


def qk_prelude(q: mx.array, k: mx.array, cos: mx.array, sin: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """rms_norm(rope(·), eps) of both.

    q (B, T, H, D), k (B, T, H_kv, D); cos, sin (1, T, 1, D/2); one dtype, which the results have too.
    """
    return rms_norm(rope(q, cos, sin), eps), rms_norm(rope(k, cos, sin), eps)
