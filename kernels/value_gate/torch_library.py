"""The gated value embedding with PyTorch's fused multiply-add."""

import torch


def value_gate(v: torch.Tensor, ve: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """y = v + 2·σ(gate)·ve by torch.addcmul; v, ve (B, T, H, D), gate (B, T, H); y in v's dtype."""
    return torch.addcmul(v, torch.sigmoid(gate).unsqueeze(-1), ve, value=2)
