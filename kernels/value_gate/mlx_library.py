"""The gated value embedding, fused by mx.compile."""

import mlx.core as mx


@mx.compile
def _fused(v: mx.array, ve: mx.array, gate: mx.array) -> mx.array:
    return (v + (2 * mx.sigmoid(gate))[..., None] * ve).astype(v.dtype)


def value_gate(v: mx.array, ve: mx.array, gate: mx.array) -> mx.array:
    """y = v + 2·σ(gate)·ve; v, ve (B, T, H, D), gate (B, T, H); y in v's dtype."""
    return _fused(v, ve, gate)
