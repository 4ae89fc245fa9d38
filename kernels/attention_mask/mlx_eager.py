"""The causal sliding-window mask in MLX operations."""

import mlx.core as mx


def attention_mask(seq_len: int, window: int, like: mx.array) -> mx.array:
    """Boolean (T, T) mask, True where query i may attend to key j: 0 ≤ i − j ≤ window.

    The values and the shape of `like` do not matter. No gradient.
    """
    position = mx.arange(seq_len)
    distance = position[:, None] - position
    return (distance >= 0) & (distance <= window)
