"""Rotary position embedding in MLX operations."""

import mlx.core as mx


def rope(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotate the pairs (i, i + D/2) of every head by minus the angle of their position.

    x (B, T, H, D); cos, sin (1, T, 1, D/2). y1 = x1·cos + x2·sin, y2 = x2·cos − x1·sin; y in x's dtype.
    """
    x1, x2 = mx.split(x, 2, axis=-1)
    return mx.concatenate((x1 * cos + x2 * sin, x2 * cos - x1 * sin), axis=-1).astype(x.dtype)
