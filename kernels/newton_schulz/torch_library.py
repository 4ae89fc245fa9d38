"""The Polar Express iteration, compiled by Inductor: library matrix products, everything between them fused."""

import torch

COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@torch.compile(fullgraph=True)
def _iterate(g: torch.Tensor, steps: int) -> torch.Tensor:
    g = g.float()
    x = (g / (g.square().sum((-2, -1), keepdim=True).sqrt() * 1.02 + 1e-6)).bfloat16()
    tall = g.size(-2) > g.size(-1)
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        gram = x.mT @ x if tall else x @ x.mT
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, poly, beta=a) if tall else torch.baddbmm(x, poly, x, beta=a)
    return x


@torch.no_grad()
def newton_schulz(g: torch.Tensor, steps: int) -> torch.Tensor:
    """Approximate U·Vᵀ of every matrix; g (N, R, C) any float dtype, x (N, R, C) bfloat16; no gradient.

    Each matrix is normalised by its own Frobenius norm. Needs a C++ compiler on the CPU.
    """
    return _iterate(g, steps)
