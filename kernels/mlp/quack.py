"""quack's MLP: the squared ReLU in the epilogue of the first product."""

import torch
from quack.mlp import mlp_func


def mlp(x: torch.Tensor, w_fc: torch.Tensor, w_proj: torch.Tensor) -> torch.Tensor:
    """x (..., C), w_fc (H, C), w_proj (C, H); y (..., C) in x's dtype. Tunes itself at the first call. Hopper and
    later."""
    return mlp_func(x, w_fc.to(x.dtype), w_proj.to(x.dtype), activation="relu_sq")
