"""The scaled residual stream and its norm, by the smaller targets' kernels."""

import torch

from autoresearch_cuda.kernel_files import part

residual_mix, rms_norm = part("residual_mix"), part("rms_norm")


def residual_norm(
    x: torch.Tensor, x0: torch.Tensor, resid_lambda: torch.Tensor, x0_lambda: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(resid_lambda·x + x0_lambda·x0, rms_norm of that).

    x, x0 (B, T, C), one dtype; the two factors are 0-dimensional float32 tensors with gradients; results in x's dtype.
    """
    x = residual_mix(x, x0, resid_lambda, x0_lambda)
    return x, rms_norm(x, eps)
