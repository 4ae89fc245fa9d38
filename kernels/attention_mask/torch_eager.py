"""The causal sliding-window mask in PyTorch operations."""

import torch


def attention_mask(seq_len: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """Boolean (T, T) mask, True where query i may attend to key j: 0 ≤ i − j ≤ window.

    Built on the device of `like`, whose values and shape do not matter. No gradient.
    """
    position = torch.arange(seq_len, device=like.device)
    distance = position[:, None] - position
    return (distance >= 0) & (distance <= window)
