"""The Polar Express iteration as public speed-run trainers write it: every product and every sum rounded to bfloat16.

After modded-nanogpt and nanochat (Muon's zeropower / polar express): A = X X', B = b A + c A A, X <- a X + B X.
"""

import torch

COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@torch.no_grad()
def newton_schulz(g: torch.Tensor, steps: int) -> torch.Tensor:
    """g (N, R, C), any float dtype; x (N, R, C) bfloat16, towards U·Vᵀ of every matrix. No gradient."""
    x = (g.float() / (g.float().norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)).bfloat16()
    tall = g.size(-2) > g.size(-1)
    x = x.mT if tall else x
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        gram = x @ x.mT
        poly = b * gram + c * gram @ gram
        x = a * x + poly @ x
    return x.mT if tall else x
