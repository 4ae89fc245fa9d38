"""The head's product, and MLX's fused cross entropy behind a compiled softcap."""

import mlx.core as mx


@mx.compile
def _capped(logits: mx.array, softcap: float) -> mx.array:
    return softcap * mx.tanh(logits.astype(mx.float32) / softcap)


def loss_head(x: mx.array, w_head: mx.array, targets: mx.array, softcap: float, reduction: str) -> mx.array:
    """x (N, C), w_head (V, C), targets (N,) integer, −1 is ignored; loss float32, () for "mean" over the targets that
    count, (N,) for "none"."""
    counted = targets != -1
    capped = _capped(x @ w_head.astype(x.dtype).T, softcap)
    loss = mx.where(counted, mx.fast.cross_entropy(capped, mx.maximum(targets, 0)), 0.0)
    if reduction == "none":
        return loss
    # Where no target counts the mean is NaN and its gradient 0.
    count = counted.sum()
    return mx.where(count > 0, loss.sum() / mx.maximum(count, 1), float("nan"))
