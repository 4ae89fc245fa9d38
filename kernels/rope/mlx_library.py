"""Rotary position embedding by mx.fast.rope, fused both ways on a GPU.

The operator computes its own angles from frequencies, so this arm is right only for the model's own tables of cosines
and sines: base 10,000, positions from 0. It turns the other way round; negated frequencies make up for that.
"""

import mlx.core as mx

BASE = 10_000.0


def rope(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """x (B, T, H, D); y (B, T, H, D) in x's dtype. cos and sin (1, T, 1, D/2) must be those of BASE."""
    width = x.shape[-1]
    # mx.fast.rope divides the position by a frequency, and its sequence axis is the one before the last.
    freqs = -(BASE ** (mx.arange(0, width, 2, dtype=mx.float32) / width))
    turned = mx.fast.rope(
        x.transpose(0, 2, 1, 3), width, traditional=False, base=None, scale=1.0, offset=0, freqs=freqs
    )
    return turned.transpose(0, 2, 1, 3)
