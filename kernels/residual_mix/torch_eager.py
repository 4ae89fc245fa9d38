"""The scaled residual stream in PyTorch operations."""

import torch


def residual_mix(
    x: torch.Tensor, x0: torch.Tensor, resid_lambda: torch.Tensor, x0_lambda: torch.Tensor
) -> torch.Tensor:
    """y = resid_lambda·x + x0_lambda·x0.

    x, x0 (B, T, C), one dtype; the two factors are 0-dimensional float32 tensors with gradients; y in x's dtype.
    """
    return resid_lambda * x + x0_lambda * x0
