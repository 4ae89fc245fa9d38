"""Head and softcapped loss as public speed-run trainers write them: logits in x's dtype, the rest in float32."""

import torch
import torch.nn.functional as F


def loss_head(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    """x (N, C); w_head (V, C); targets (N,) int64, −1 is ignored; loss float32, () for "mean", (N,) for "none"."""
    logits = softcap * torch.tanh(F.linear(x, w_head.to(x.dtype)).float() / softcap)
    return F.cross_entropy(logits, targets, ignore_index=-1, reduction=reduction)
