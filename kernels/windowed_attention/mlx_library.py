"""Causal sliding-window attention by mx.fast.scaled_dot_product_attention, which takes a window as a mask."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

attention_mask = part("attention_mask")


def windowed_attention(q: mx.array, k: mx.array, v: mx.array, window: int) -> mx.array:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D), one dtype; y (B, T, H, D) in q's dtype. A window that reaches every earlier
    key is plain causal attention, which needs no mask array.
    """
    seq_len, width = q.shape[1], q.shape[3]
    mask = "causal" if window >= seq_len - 1 else attention_mask(seq_len, window, q)
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=width**-0.5, mask=mask).transpose(0, 2, 1, 3)
