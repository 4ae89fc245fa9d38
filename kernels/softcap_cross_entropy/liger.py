"""Liger-Kernel's cross entropy with its softcap."""

import torch
from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction

NO_WEIGHT, IGNORED, NO_Z_LOSS, NO_SMOOTHING = None, -1, 0.0, 0.0


def softcap_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, softcap: float, reduction: str) -> torch.Tensor:
    """Cross entropy of cap·tanh(logits / cap); logits (N, V), targets (N,) int64, −1 is ignored.

    Loss float32, rounded to the logits' dtype before; () for "mean" over the targets that count, (N,) for "none". The
    gradient is written over the logits during forward, which the contract forbids a kernel that is to be promoted: as a
    rival it shows what that would gain.
    """
    found = LigerCrossEntropyFunction.apply(
        logits, targets, NO_WEIGHT, IGNORED, NO_Z_LOSS, NO_SMOOTHING, reduction, softcap
    )
    return found[0].float()
