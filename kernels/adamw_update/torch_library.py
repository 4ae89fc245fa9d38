"""One AdamW step by PyTorch's fused optimizer kernel."""

import torch
from torch.optim.adamw import adamw


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
    # The fused kernel walks all four tensors in memory order, so they need one layout.
    dense = [tensor.contiguous() for tensor in (p, grad, exp_avg, exp_avg_sq)]
    # The library counts the step up by itself before it uses it.
    steps = torch.tensor(float(step - 1), dtype=torch.float32, device=p.device)
    adamw(
        dense[:1],
        dense[1:2],
        dense[2:3],
        dense[3:],
        [],
        [steps],
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
    )
    for tensor, updated in ((p, dense[0]), (exp_avg, dense[2]), (exp_avg_sq, dense[3])):
        if updated is not tensor:
            tensor.copy_(updated)
    return p, exp_avg, exp_avg_sq
