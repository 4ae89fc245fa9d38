"""Liger-Kernel's fused linear cross entropy with its softcap."""

import torch
from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

NO_BIAS, NO_WEIGHT, IGNORED, NO_Z_LOSS, NO_SMOOTHING, NO_OUTPUT = None, None, -1, 0.0, 0.0, False


def loss_head(
    x: torch.Tensor, w_head: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str
) -> torch.Tensor:
    """x (N, C), w_head (V, C), targets (N,) int64, −1 is ignored; loss float32, () for "mean" over the targets that
    count, (N,) for "none". Logits exist for a chunk of rows at a time; the weights' gradient is summed in float32."""
    found = LigerFusedLinearCrossEntropyFunction.apply(
        x, w_head.to(x.dtype), targets, NO_BIAS, NO_WEIGHT, IGNORED, NO_Z_LOSS, NO_SMOOTHING, reduction, softcap,
        NO_OUTPUT, torch.float32,
    )  # fmt: skip
    return found[0].float()
