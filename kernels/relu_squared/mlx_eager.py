"""Squared ReLU in MLX operations."""

import mlx.core as mx


def relu_squared(x: mx.array) -> mx.array:
    """y = max(x, 0)², elementwise; y has x's shape and dtype."""
    return mx.maximum(x, 0).square()
