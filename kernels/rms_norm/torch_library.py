"""PyTorch's own RMS norm."""

import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x², last axis) + eps); x (..., D); y in x's dtype. torch.nn.functional.rms_norm, no weight."""
    return F.rms_norm(x, (x.size(-1),), eps=eps)
