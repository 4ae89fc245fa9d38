"""The scaled residual stream and its norm as public speed-run trainers write them, with F.rms_norm."""

import torch
import torch.nn.functional as F


def residual_norm(
    x: torch.Tensor, x0: torch.Tensor, resid_lambda: torch.Tensor, x0_lambda: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x, x0 (B, T, C), factors () float32; the mixed stream and its norm, in x's dtype."""
    x = resid_lambda * x + x0_lambda * x0
    return x, F.rms_norm(x, (x.size(-1),), eps=eps)
