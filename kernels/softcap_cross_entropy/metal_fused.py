"""Softcapped cross entropy in Metal: one pass over the logits for the loss, one for the gradient."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays

THREADS = 256  # per row forward; backward per SPAN classes of a row
SPAN = 4 * THREADS

_kernels = metal_kit.kernels(__file__)


def _forward(logits: mx.array, targets: mx.array, softcap: float) -> Arrays:
    """Of each row the loss, the highest capped logit, and the sum of exponentials of all less that; (N,) float32."""
    rows = logits.shape[0]
    return tuple(
        _kernels.forward(
            logits,
            targets,
            softcap,
            outputs=[((rows,), mx.float32)] * 3,
            grid=(THREADS, rows, 1),
            group=(THREADS, 1, 1),
            THREADS=THREADS,
        )
    )


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays, softcap: float) -> list[mx.array | None]:
    (logits, targets), (_, tops, sums) = primals, outputs
    rows, classes = logits.shape
    (gradient,) = _kernels.backward(
        logits,
        targets,
        softcap,
        tops,
        sums,
        cotangents[0],
        outputs=[(logits.shape, logits.dtype)],
        grid=(-(-classes // SPAN) * THREADS, rows, 1),
        group=(THREADS, 1, 1),
        T=logits.dtype,
    )
    return [gradient, None]


_losses = metal_kit.Differentiable(_forward, _backward)


def softcap_cross_entropy(logits: mx.array, targets: mx.array, softcap: float, reduction: str) -> mx.array:
    """Cross entropy of cap·tanh(logits / cap), float32 inside.

    logits (N, V) float32, float16 or bfloat16; targets (N,) integer, −1 is ignored; loss float32: "mean" () over the
    targets that count, "none" (N,) with 0 where ignored. A target that is no class gives NaN.
    Raises ValueError for another reduction.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; known: mean, none")
    losses, _, _ = _losses(logits, targets, softcap=float(softcap))
    return losses.sum() / (targets != -1).sum() if reduction == "mean" else losses
