"""Softcapped cross entropy as public speed-run trainers write it: cap·tanh(logits / cap) in float32, then the loss."""

import torch
import torch.nn.functional as F


def softcap_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str) -> torch.Tensor:
    """logits (N, V), any float dtype; targets (N,) int64, −1 is ignored; loss float32, () or (N,) for "none"."""
    capped = softcap * torch.tanh(logits.float() / softcap)
    return F.cross_entropy(capped, targets, ignore_index=-1, reduction=reduction)
