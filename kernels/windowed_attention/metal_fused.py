"""Causal sliding-window attention in Metal: by blocks, forward and backward, skipping what the window hides."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays

THREADS = 128  # four simdgroups, as the source has it
GROUP = (THREADS, 1, 1)
QUERIES = 32  # of a threadgroup forward
BLOCK = 16  # queries, or keys, of a threadgroup backward
MOST_WIDTH = 128

_kernels = metal_kit.kernels(__file__)


def _launch(length: int, heads: int, batch: int, block: int) -> dict[str, tuple[int, int, int]]:
    return {"grid": (-(-length // block) * THREADS, heads, batch), "group": GROUP}


def _forward(q: mx.array, k: mx.array, v: mx.array, window: int) -> Arrays:
    """y (B, T, H, D), and of each query the highest score and the sum of the exponentials of the scores less that,
    (B, H, T) float32."""
    batch, length, heads, width = q.shape
    return tuple(
        _kernels.forward(
            q,
            k,
            v,
            window,
            width**-0.5,
            outputs=[(q.shape, q.dtype), *[((batch, heads, length), mx.float32)] * 2],
            **_launch(length, heads, batch, QUERIES),
            T=q.dtype,
            WIDTH=width,
        )
    )


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays, window: int) -> list[mx.array]:
    (q, k, v), (g, *_), (_, tops, totals) = primals, cotangents, outputs
    batch, length, heads, width = q.shape
    scalars = (window, width**-0.5)
    dq, centres, offsets = _kernels.queries(
        g,
        q,
        k,
        v,
        tops,
        totals,
        *scalars,
        outputs=[(q.shape, q.dtype), *[(tops.shape, mx.float32)] * 2],
        **_launch(length, heads, batch, BLOCK),
        T=q.dtype,
        WIDTH=width,
    )
    dk, dv = _kernels.keys(
        g,
        q,
        k,
        v,
        tops,
        totals,
        centres,
        offsets,
        *scalars,
        outputs=[(k.shape, k.dtype), (v.shape, v.dtype)],
        **_launch(length, k.shape[2], batch, BLOCK),
        T=q.dtype,
        WIDTH=width,
    )
    return [dq, dk, dv]


_attention = metal_kit.Differentiable(_forward, _backward)


def windowed_attention(q: mx.array, k: mx.array, v: mx.array, window: int) -> mx.array:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D) with H a multiple of H_kv, all float32, float16 or bfloat16, D ≤ 128; y
    (B, T, H, D) in their dtype. Scores and their softmax are float32.
    Raises ValueError for wider heads, TypeError for different dtypes.
    """
    if q.shape[-1] > MOST_WIDTH:
        raise ValueError(f"windowed_attention takes heads of at most {MOST_WIDTH} elements, not {q.shape[-1]}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"windowed_attention takes one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    y, _, _ = _attention(q, k, v, window=int(window))
    return y
