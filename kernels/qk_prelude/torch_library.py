"""Rotation and normalisation of queries and keys, fused by Inductor."""

import torch
import torch.nn.functional as F


def _rotated_and_normed(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float) -> torch.Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    return F.rms_norm(torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1), (x.size(-1),), eps=eps)


@torch.compile(fullgraph=True)
def _fused(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _rotated_and_normed(q, cos, sin, eps), _rotated_and_normed(k, cos, sin, eps)


def qk_prelude(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """q (B, T, H, D), k (B, T, H_kv, D); cos, sin (1, T, 1, D/2); both results in q's dtype. Needs a C++ compiler on
    the CPU."""
    return _fused(q, k, cos, sin, eps)
