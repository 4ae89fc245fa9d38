"""Rotation and norm of queries and keys as public speed-run trainers write them: halves, then F.rms_norm."""

import torch
import torch.nn.functional as F


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.size(-1) // 2
    x1, x2 = x[..., :half], x[..., half:]
    return torch.cat([x1 * cos + x2 * sin, x1 * (-sin) + x2 * cos], dim=-1)


def qk_prelude(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """q (B, T, H, D), k (B, T, H_kv, D); cos, sin (1, T, 1, D/2); both results in q's dtype."""
    q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
    return F.rms_norm(q, (q.size(-1),), eps=eps), F.rms_norm(k, (k.size(-1),), eps=eps)
