"""Liger-Kernel's squared ReLU."""

import torch
from liger_kernel.ops.relu_squared import LigerReLUSquaredFunction


def relu_squared(x: torch.Tensor) -> torch.Tensor:
    """y = max(x, 0)², elementwise, in x's dtype; x (..., C)."""
    return LigerReLUSquaredFunction.apply(x)
