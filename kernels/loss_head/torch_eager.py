"""The head's product in PyTorch operations, and the smaller target's kernel for the loss."""

import torch
import torch.nn.functional as F

from autoresearch_cuda.kernel_files import part

softcap_cross_entropy = part("softcap_cross_entropy")


def loss_head(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    """Softcapped cross entropy of the logits x w_headᵀ, which are computed in x's dtype.

    x (N, C); w_head (V, C) of any float dtype, float32 in the trainer, and its gradient too; targets (N,) int64, −1 is
    ignored; loss float32: "mean" () over the targets that count, "none" (N,) with 0 where ignored.
    """
    return softcap_cross_entropy(F.linear(x, w_head.to(x.dtype)), targets, softcap, reduction)
