"""The MLP in PyTorch operations, around the smaller target's kernel."""

import torch
import torch.nn.functional as F

from autoresearch_cuda.kernel_files import part

relu_squared = part("relu_squared")


def mlp(x: torch.Tensor, w_fc: torch.Tensor, w_proj: torch.Tensor) -> torch.Tensor:
    """y = relu_squared(x w_fcᵀ) w_projᵀ, computed in x's dtype.

    x (..., C); w_fc (H, C) and w_proj (C, H) of any float dtype, float32 in the trainer; y (..., C) in x's dtype. The
    gradients of the weights have the weights' dtype.
    """
    return F.linear(relu_squared(F.linear(x, w_fc.to(x.dtype))), w_proj.to(x.dtype))
