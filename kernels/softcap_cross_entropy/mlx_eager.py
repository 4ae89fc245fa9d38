"""Softcapped cross entropy in MLX operations."""

import mlx.core as mx


def softcap_cross_entropy(logits: mx.array, targets: mx.array, softcap: float, reduction: str) -> mx.array:
    """Cross entropy of z = cap·tanh(logits / cap), in float32.

    logits (N, V), any float dtype; targets (N,) integer, −1 is ignored; loss float32: "mean" () over the targets that
    count, "none" (N,) with 0 where ignored.
    """
    capped = softcap * mx.tanh(logits.astype(mx.float32) / softcap)
    counted = targets != -1
    picked = mx.take_along_axis(capped, mx.maximum(targets, 0)[:, None], axis=-1).squeeze(-1)
    loss = mx.where(counted, mx.logsumexp(capped, axis=-1) - picked, 0.0)
    if reduction == "none":
        return loss
    # Where no target counts the mean is NaN and its gradient 0.
    count = counted.sum()
    return mx.where(count > 0, loss.sum() / mx.maximum(count, 1), float("nan"))
