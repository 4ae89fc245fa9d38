"""Liger-Kernel's RMS norm, without a weight."""

import torch
from liger_kernel.ops.rms_norm import LigerRMSNormFunction

OFFSET, CASTING, IN_PLACE = 0.0, "llama", False


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x², last axis) + eps); x (..., D); y in x's dtype. Its gradient does not overwrite the one
    that it is given: another reader may need that."""
    return LigerRMSNormFunction.apply(x, None, eps, OFFSET, CASTING, IN_PLACE)
