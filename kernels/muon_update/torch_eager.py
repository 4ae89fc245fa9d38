"""One Muon step in PyTorch operations: Nesterov momentum, polar factor, NorMuon, cautious decay."""

import torch

from autoresearch_cuda.kernel_files import part

newton_schulz = part("newton_schulz")


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
    """Update p and both momenta in place and return them; grad is left as it is.

    p, grad, momentum (N, R, C), one floating dtype; second_momentum (N, R, 1) if R ≥ C, else (N, 1, C): a running mean
    of the mean square of the update along the last axis, or the one before it, without bias correction.
    """
    momentum.lerp_(grad, 1 - mu)
    update = newton_schulz(torch.lerp(grad, momentum, mu), steps).float()

    # NorMuon: even out the rows (or columns), then restore the Frobenius norm.
    axis = -1 if p.size(-2) >= p.size(-1) else -2
    mean_square = update.square().mean(axis, keepdim=True)
    second_momentum.lerp_(mean_square.to(second_momentum.dtype), 1 - beta2)
    scale = second_momentum.float().clamp(min=1e-10).rsqrt()
    norm_before = mean_square.sum((-2, -1), keepdim=True).sqrt()
    norm_after = (mean_square * scale.square()).sum((-2, -1), keepdim=True).sqrt()
    update.mul_(scale * (norm_before / norm_after.clamp(min=1e-10)))

    # Cautious decay: only where the update and the weight have one sign, so that decay never fights the update.
    decayed = p * (update * p >= 0)
    p.sub_(update.add_(decayed, alpha=weight_decay), alpha=lr)
    return p, momentum, second_momentum
