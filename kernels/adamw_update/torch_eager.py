"""One AdamW step in PyTorch operations (Loshchilov and Hutter, 2019)."""

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
    """Update p and both moments in place and return them.

    All four tensors have one shape and one dtype (that of the parameter); `step` counts from 1.
    p ← p·(1 − lr·wd) − lr/(1 − β1ᵗ) · m / (√(v/(1 − β2ᵗ)) + eps).
    """
    if weight_decay != 0:
        p.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    denominator = (exp_avg_sq / (1 - beta2**step)).sqrt_().add_(eps)
    p.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))
    return p, exp_avg, exp_avg_sq
