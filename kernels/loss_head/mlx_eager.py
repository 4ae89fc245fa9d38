"""The head's product in MLX operations, and the smaller target's kernel for the loss."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

softcap_cross_entropy = part("softcap_cross_entropy")


def loss_head(x: mx.array, w_head: mx.array, targets: mx.array, softcap: float, reduction: str) -> mx.array:
    """Softcapped cross entropy of the logits x w_headᵀ, which are computed in x's dtype.

    x (N, C); w_head (V, C) of any float dtype, float32 in the trainer, and its gradient too; targets (N,) integer, −1
    is ignored; loss float32: "mean" () over the targets that count, "none" (N,) with 0 where ignored.
    """
    return softcap_cross_entropy(x @ w_head.astype(x.dtype).T, targets, softcap, reduction)
