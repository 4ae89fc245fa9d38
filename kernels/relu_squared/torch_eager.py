"""Squared ReLU in PyTorch operations."""

import torch
import torch.nn.functional as F


def relu_squared(x: torch.Tensor) -> torch.Tensor:
    """y = max(x, 0)², elementwise; y has x's shape and dtype."""
    return F.relu(x).square()
