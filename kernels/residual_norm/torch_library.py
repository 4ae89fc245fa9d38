"""The scaled residual stream and its norm, fused by Inductor."""

import torch
import torch.nn.functional as F


@torch.compile(fullgraph=True)
def _fused(
    x: torch.Tensor, x0: torch.Tensor, resid_lambda: torch.Tensor, x0_lambda: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    x = resid_lambda * x + x0_lambda * x0
    return x, F.rms_norm(x, (x.size(-1),), eps=eps)


def residual_norm(
    x: torch.Tensor, x0: torch.Tensor, resid_lambda: torch.Tensor, x0_lambda: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x, x0 (B, T, C), factors () float32; the mixed stream and its norm, in x's dtype. Needs a C++ compiler on the
    CPU."""
    return _fused(x, x0, resid_lambda, x0_lambda, eps)
