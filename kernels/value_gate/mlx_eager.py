"""The gated value embedding in MLX operations."""

import mlx.core as mx


def value_gate(v: mx.array, ve: mx.array, gate: mx.array) -> mx.array:
    """y = v + 2·σ(gate)·ve, the gate being one number per head.

    v, ve (B, T, H, D); gate (B, T, H) before the sigmoid; y in v's dtype.
    """
    return (v + (2 * mx.sigmoid(gate))[..., None] * ve).astype(v.dtype)
