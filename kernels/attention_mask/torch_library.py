"""The causal sliding-window mask from PyTorch's triangle operators."""

import torch


def attention_mask(seq_len: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """Boolean (T, T), True where 0 ≤ i − j ≤ window, on the device of `like`: a lower triangle cut off below."""
    return torch.ones(seq_len, seq_len, dtype=torch.bool, device=like.device).tril_().triu_(-window)
