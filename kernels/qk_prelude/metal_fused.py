"""Rotation and norm of queries and keys in Metal: one launch forward, one backward, nothing kept between."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import SIMD, Arrays

_kernels = metal_kit.kernels(__file__)


def _launch(q: mx.array, k: mx.array) -> dict:
    batch, time, heads, width = q.shape
    return {
        "outputs": [(q.shape, q.dtype), (k.shape, k.dtype)],
        "grid": (SIMD, heads + k.shape[2] if width else 0, batch * time),
        "group": (SIMD, 4, 1),
        "TQ": q.dtype,
        "TK": k.dtype,
    }


def _forward(q: mx.array, k: mx.array, cos: mx.array, sin: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    (batch, time, _, width), heads = q.shape, k.shape[2]
    angles = (1, time, 1, width // 2)
    if width % 2 or k.shape != (batch, time, heads, width) or not cos.shape == sin.shape == angles:
        raise ValueError(f"q {q.shape}, k {k.shape}, cos {cos.shape} and sin {sin.shape} do not fit together")
    return tuple(_kernels.forward(q, k, cos, sin, eps, **_launch(q, k)))


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays, eps: float) -> list[mx.array | None]:
    q, k, cos, sin = primals
    return [*_kernels.backward(*cotangents, q, k, cos, sin, eps, **_launch(q, k)), None, None]


_prelude = metal_kit.Differentiable(_forward, _backward)


def qk_prelude(q: mx.array, k: mx.array, cos: mx.array, sin: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """rms_norm(rope(·), eps) of both, over each head.

    q (B, T, H, D), k (B, T, K, D) float32, bfloat16 or float16; cos, sin (1, T, 1, D/2), which get no gradients;
    results in the dtypes of q and k. Raises ValueError where the shapes do not fit.
    """
    return _prelude(q, k, cos, sin, eps=float(eps))
