"""Rotation and normalisation of queries and keys, by the smaller targets' kernels."""

import torch

from autoresearch_cuda.kernel_files import part

rope, rms_norm = part("rope"), part("rms_norm")


def qk_prelude(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """rms_norm(rope(·), eps) of both.

    q (B, T, H, D), k (B, T, H_kv, D), any strides; cos, sin (1, T, 1, D/2); one dtype, which the results have too.
    """
    return rms_norm(rope(q, cos, sin), eps), rms_norm(rope(k, cos, sin), eps)
