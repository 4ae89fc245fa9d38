"""Rotary position embedding, fused by Inductor: PyTorch has no such operator of its own."""

import torch


@torch.compile(fullgraph=True)
def _fused(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1).to(x.dtype)


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x (B, T, H, D); cos, sin (1, T, 1, D/2); y (B, T, H, D) in x's dtype. Needs a C++ compiler on the CPU."""
    return _fused(x, cos, sin)
