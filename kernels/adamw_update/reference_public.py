"""One AdamW step as public speed-run trainers write it, one operation after another (nanochat's adamw_step_fused)."""

import torch


@torch.no_grad()
def adamw_update(
    p: torch.Tensor,
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Update p and both moments in place and return them; one shape and one dtype, `step` counts from 1."""
    p.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.lerp_(grad.square(), 1 - beta2)
    denominator = (exp_avg_sq / (1 - beta2**step)).sqrt() + eps
    p.add_(exp_avg / denominator, alpha=-lr / (1 - beta1**step))
    return p, exp_avg, exp_avg_sq
