"""One Muon step with everything around the polar factor fused by Inductor; scalars are passed as tensors, because they
change from step to step and compiled code would otherwise be built again."""

import torch

from autoresearch_cuda.kernel_files import part

newton_schulz = part("newton_schulz")


@torch.compile(fullgraph=True)
def _nesterov(grad: torch.Tensor, momentum: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    momentum.copy_(mu * momentum + (1 - mu) * grad)
    return (1 - mu) * grad + mu * momentum


@torch.compile(fullgraph=True)
def _apply(
    p: torch.Tensor,
    update: torch.Tensor,
    second_momentum: torch.Tensor,
    lr: torch.Tensor,
    weight_decay: torch.Tensor,
    beta2: torch.Tensor,
) -> None:
    update = update.float()
    mean_square = update.square().mean(-1 if p.size(-2) >= p.size(-1) else -2, keepdim=True)
    second_momentum.copy_(beta2 * second_momentum + (1 - beta2) * mean_square)
    scale = second_momentum.float().clamp(min=1e-10).rsqrt()
    norm_before = mean_square.sum((-2, -1), keepdim=True).sqrt()
    norm_after = (mean_square * scale.square()).sum((-2, -1), keepdim=True).sqrt()
    update = update * (scale * (norm_before / norm_after.clamp(min=1e-10)))
    p.sub_(lr * (update + weight_decay * p * (update * p >= 0)))


@torch.no_grad()
def muon_update(
    p: torch.Tensor,
    grad: torch.Tensor,
    momentum: torch.Tensor,
    second_momentum: torch.Tensor,
    mu: float,
    lr: float,
    weight_decay: float,
    beta2: float,
    steps: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Update p (N, R, C) and both momenta in place and return them; grad is left as it is; one floating dtype.

    second_momentum (N, R, 1) if R ≥ C, else (N, 1, C). Needs a C++ compiler on the CPU.
    """
    update = newton_schulz(_nesterov(grad, momentum, torch.tensor(mu)), steps)
    _apply(p, update, second_momentum, torch.tensor(lr), torch.tensor(weight_decay), torch.tensor(beta2))
    return p, momentum, second_momentum
