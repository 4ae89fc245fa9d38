"""Rotary position embedding in PyTorch operations."""

import torch


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (i, i + D/2) of every head by minus the angle of their position.

    x (B, T, H, D); cos, sin (1, T, 1, D/2). y1 = x1·cos + x2·sin, y2 = x2·cos − x1·sin; y in x's dtype.
    """
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1).to(x.dtype)
