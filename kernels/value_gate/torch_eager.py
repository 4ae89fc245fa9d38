"""The gated value embedding in PyTorch operations."""

import torch


def value_gate(v: torch.Tensor, ve: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """y = v + 2·σ(gate)·ve, the gate being one number per head.

    v, ve (B, T, H, D); gate (B, T, H) before the sigmoid; y in v's dtype.
    """
    return v + (2 * torch.sigmoid(gate)).unsqueeze(-1) * ve
