"""One Muon step as public speed-run trainers write it: elementwise operations around an iteration in bfloat16.

After nanochat's muon_step_fused: Nesterov momentum, polar express, NorMuon, cautious weight decay.
"""

import torch

COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def _orthogonal(g: torch.Tensor, steps: int) -> torch.Tensor:
    """x (N, R, C) bfloat16 towards U·Vᵀ of every matrix in g."""
    x = (g.float() / (g.float().norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)).bfloat16()
    tall = g.size(-2) > g.size(-1)
    x = x.mT if tall else x
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        gram = x @ x.mT
        poly = b * gram + c * gram @ gram
        x = a * x + poly @ x
    return x.mT if tall else x


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
    """Update p, momentum (N, R, C) and second_momentum (N, R, 1) if R ≥ C, else (N, 1, C), in place; return them."""
    momentum.lerp_(grad, 1 - mu)
    x = _orthogonal(grad.lerp(momentum, mu), steps)
    axis = -1 if p.size(-2) >= p.size(-1) else -2
    mean = x.float().square().mean(dim=axis, keepdim=True)
    norm = (mean.sum(dim=(-2, -1), keepdim=True) * x.size(axis)).sqrt()
    second_momentum.lerp_(mean.to(second_momentum.dtype), 1 - beta2)
    size = second_momentum.float().clamp_min(1e-10).rsqrt()
    scaled = ((mean * x.size(axis)) * size.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    update = x.float() * (size * (norm / scaled.clamp_min(1e-10)))
    p.sub_(lr * update + lr * weight_decay * p * (update * p >= 0))
    return p, momentum, second_momentum
