"""The causal sliding-window mask from MLX's triangle operators."""

import mlx.core as mx


def attention_mask(seq_len: int, window: int, like: mx.array) -> mx.array:
    """Boolean (T, T), True where 0 ≤ i − j ≤ window: a lower triangle less another one further down."""
    return mx.tri(seq_len, dtype=mx.bool_) & ~mx.tri(seq_len, k=-window - 1, dtype=mx.bool_)
