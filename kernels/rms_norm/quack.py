"""quack's RMS norm, without a weight."""

import torch
from quack.rmsnorm import rmsnorm


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x², last axis) + eps); x (..., D); y in x's dtype. Hopper and later."""
    return rmsnorm(x, eps=eps)
