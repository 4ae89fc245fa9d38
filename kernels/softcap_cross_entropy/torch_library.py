"""Softcapped cross entropy, fused by Inductor: PyTorch has no such operator of its own."""

import torch
import torch.nn.functional as F


@torch.compile(fullgraph=True)
def _fused(logits: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str) -> torch.Tensor:
    capped = softcap * torch.tanh(logits.float() / softcap)
    return F.cross_entropy(capped, targets, ignore_index=-1, reduction=reduction)


def softcap_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str) -> torch.Tensor:
    """Cross entropy of cap·tanh(logits / cap) in float32; logits (N, V), targets (N,) int64, −1 is ignored.

    Loss float32, () for "mean" over the targets that count, (N,) for "none". Needs a C++ compiler on the CPU.
    """
    return _fused(logits, targets, softcap, reduction)
