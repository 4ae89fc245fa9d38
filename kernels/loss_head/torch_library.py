"""The head's product and its loss, fused by Inductor: PyTorch has no such operator with a softcap."""

import torch
import torch.nn.functional as F


@torch.compile(fullgraph=True)
def _fused(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    logits = softcap * torch.tanh(F.linear(x, w_head.to(x.dtype)).float() / softcap)
    return F.cross_entropy(logits, targets, ignore_index=-1, reduction=reduction)


def loss_head(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    """x (N, C), w_head (V, C), targets (N,) int64, −1 is ignored; loss float32, () for "mean" over the targets that
    count, (N,) for "none". Needs a C++ compiler on the CPU."""
    return _fused(x, w_head, targets, softcap, reduction)
