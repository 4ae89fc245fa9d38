"""Causal sliding-window attention in MLX operations: scores, softmax, weighted sum."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

attention_mask = part("attention_mask")


def windowed_attention(q: mx.array, k: mx.array, v: mx.array, window: int) -> mx.array:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D) with H a multiple of H_kv, one dtype; y (B, T, H, D) in q's dtype. The
    scores (B, H, T, T) are held in q's dtype, their softmax is computed in float32.
    """
    batch, seq_len, heads, width = q.shape
    group = heads // k.shape[2]
    # Query heads that share a key head form an axis of their own, so that keys and values are not copied.
    q = q.reshape(batch, seq_len, -1, group, width).transpose(0, 2, 3, 1, 4)
    k, v = (x.transpose(0, 2, 1, 3)[:, :, None] for x in (k, v))
    scores = (q * width**-0.5) @ k.swapaxes(-1, -2)
    mask = attention_mask(seq_len, window, q)
    scores = mx.where(mask, scores, mx.array(-mx.inf, dtype=scores.dtype))
    y = mx.softmax(scores, axis=-1, precise=True) @ v
    return y.transpose(0, 3, 1, 2, 4).reshape(batch, seq_len, heads, width)
