"""Root-mean-square normalisation written out in PyTorch operations."""

import torch


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x², last axis) + eps), without a weight.

    x (..., D), any float dtype. The mean square and the product are computed in float32; y has x's dtype.
    """
    xf = x.float()
    return (xf * torch.rsqrt(xf.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
