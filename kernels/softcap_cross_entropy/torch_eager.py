"""Softcapped cross entropy in PyTorch operations."""

import torch
import torch.nn.functional as F


def softcap_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str) -> torch.Tensor:
    """Cross entropy of z = cap·tanh(logits / cap), in float32.

    cap·tanh(u) = 2·cap·σ(2u) − cap, and cross entropy ignores the constant: the sigmoid form is the same function, and
    on the CPU torch.sigmoid is several times faster than torch.tanh.

    logits (N, V), any float dtype; targets (N,) int64, −1 is ignored; loss float32: "mean" () over the targets that
    count, "none" (N,) with 0 where ignored.
    """
    capped = 2 * softcap * torch.sigmoid(logits.float() * (2 / softcap))
    return F.cross_entropy(capped, targets, ignore_index=-1, reduction=reduction)
