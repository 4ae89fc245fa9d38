"""Head and softcapped loss as public speed-run trainers run them on GPUs: logits in x's dtype, the rest in float32.

Forward keeps one logarithm of a sum for each row, and backward makes the probabilities from it. Where the model is sure
of a target, what is left of 1 - p is as exact as that logarithm; PyTorch's cross entropy keeps log p instead.
"""

from typing import Any

import torch
import torch.nn.functional as F


def loss_head(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    """x (N, C); w_head (V, C); targets (N,) int64, −1 is ignored; loss float32, () for "mean", (N,) for "none"."""
    losses: torch.Tensor = _Losses.apply(F.linear(x, w_head.to(x.dtype)), targets, softcap)
    return losses if reduction == "none" else losses.sum() / (targets >= 0).sum()


class _Losses(torch.autograd.Function):
    """Losses (N,) float32 of logits (N, V), 0 where ignored."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, cap: float) -> torch.Tensor:
        capped = cap * torch.tanh(logits.float() / cap)
        logs = capped.logsumexp(-1)
        ctx.save_for_backward(logits, targets, logs)
        ctx.cap = cap
        own = capped.gather(-1, targets.clamp(min=0)[:, None])[:, 0]
        return torch.where(targets >= 0, logs - own, 0.0)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits, targets, logs = ctx.saved_tensors
        tanh = torch.tanh(logits.float() / ctx.cap)
        slopes = torch.exp(ctx.cap * tanh - logs[:, None])
        slopes.scatter_add_(-1, targets.clamp(min=0)[:, None], -torch.ones_like(logs)[:, None])
        slopes *= (1.0 - tanh * tanh) * g[:, None]
        return torch.where(targets[:, None] >= 0, slopes, 0.0).to(logits.dtype), None, None
