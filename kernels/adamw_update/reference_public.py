"""One AdamW step as public speed-run trainers write it, one operation after another, with the scalars in float32, so
that a compiled step need not be compiled anew for each rate (nanochat's adamw_step_fused)."""

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
    steps, rate, decay1, decay2, decay = (torch.tensor(float(each)) for each in (step, lr, beta1, beta2, weight_decay))
    p.mul_(float(1 - rate * decay))
    exp_avg.lerp_(grad, float(1 - decay1))
    exp_avg_sq.lerp_(grad.square(), float(1 - decay2))
    denominator = (exp_avg_sq / float(1 - decay2**steps)).sqrt() + eps
    p.add_(exp_avg / denominator, alpha=-float(rate / (1 - decay1**steps)))
    return p, exp_avg, exp_avg_sq
