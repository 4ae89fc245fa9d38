"""Softcapped cross entropy by MLX's fused cross entropy, behind a compiled softcap."""

import mlx.core as mx


@mx.compile
def _capped(logits: mx.array, softcap: float) -> mx.array:
    return softcap * mx.tanh(logits.astype(mx.float32) / softcap)


def softcap_cross_entropy(logits: mx.array, targets: mx.array, softcap: float, reduction: str) -> mx.array:
    """Cross entropy of cap·tanh(logits / cap) in float32; logits (N, V), targets (N,) integer, −1 is ignored.

    Loss float32, () for "mean" over the targets that count, (N,) for "none". mx.fast.cross_entropy knows neither the
    softcap nor ignored targets.
    """
    counted = targets != -1
    loss = mx.where(counted, mx.fast.cross_entropy(_capped(logits, softcap), mx.maximum(targets, 0)), 0.0)
    if reduction == "none":
        return loss
    # Where no target counts the mean is NaN and its gradient 0.
    count = counted.sum()
    return mx.where(count > 0, loss.sum() / mx.maximum(count, 1), float("nan"))
