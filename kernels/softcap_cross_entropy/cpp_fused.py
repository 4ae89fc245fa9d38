"""Softcapped cross entropy in C++: the loss and its gradient in one pass over the logits.

Eager training gets the gradient for cotangent 1 with the loss, and backward hands it out. Any other cotangent (but a
power of two, by which scaling is exact) and every compiled graph recompute it from the logits, so that it is always
rounded once. Without gradients only the loss is computed.
"""

import math
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REAL
from autoresearch_cuda.operators import class_numbers, keep_for_backward

_kernel = native.load(__file__)
_forward = _kernel.function(
    "softcap_cross_entropy_forward", *[POINTER, INTEGER, *[POINTER] * 4, INTEGER, INTEGER, REAL, CODE]
)
_backward = _kernel.function(
    "softcap_cross_entropy_backward",
    *[POINTER, INTEGER, POINTER, POINTER, INTEGER, POINTER, INTEGER, INTEGER, REAL, CODE],
)


def _rows(logits: Tensor) -> Tensor:
    """The logits with contiguous rows; the rows themselves may lie apart."""
    return logits if logits.stride(1) == 1 else logits.contiguous()


def _compute(logits: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Loss () or (N,), and with `keep` the gradient (N,V) for cotangent 1, else an empty tensor."""
    logits, targets = _rows(logits), class_numbers(targets, logits).to(torch.int64)
    count, classes = logits.shape
    losses = torch.empty(count, dtype=torch.float32)
    loss = torch.empty((), dtype=torch.float32) if mean else losses
    gradient = torch.empty(logits.shape if keep else 0, dtype=logits.dtype)
    wrong = _forward(
        logits.data_ptr(),
        logits.stride(0),
        targets.data_ptr(),
        losses.data_ptr(),
        loss.data_ptr() if mean else None,
        gradient.data_ptr() if keep else None,
        count,
        classes,
        softcap,
        native.dtype_code(logits),
    )
    if wrong:
        raise IndexError(f"target {int(targets[wrong - 1])} of row {wrong - 1} is none of {classes} classes")
    return loss, gradient


def _compute_gradient(g: Tensor, logits: Tensor, targets: Tensor, softcap: float, mean: bool) -> Tensor:
    """(N,V) for the cotangent g, () or (N,)."""
    logits, targets = _rows(logits), targets.to(torch.int64).contiguous()
    count, classes = logits.shape
    shares = (g / (targets != -1).sum() if mean else g).float().contiguous()
    gradient = torch.empty(logits.shape, dtype=logits.dtype)
    _backward(
        logits.data_ptr(),
        logits.stride(0),
        targets.data_ptr(),
        shares.data_ptr(),
        0 if mean else 1,
        gradient.data_ptr(),
        count,
        classes,
        softcap,
        native.dtype_code(logits),
    )
    return gradient


def _fake(logits: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool) -> tuple[Tensor, Tensor]:
    loss = logits.new_empty(() if mean else targets.shape, dtype=torch.float32)
    return loss, logits.new_empty(logits.shape if keep else (0,))


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    logits, targets, ctx.softcap, ctx.mean, ctx.keep = inputs
    keep_for_backward(ctx, output[1])
    ctx.save_for_backward(logits, targets, *(output[1:] if ctx.keep else ()))


def _differentiate(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    logits, targets, *kept = ctx.saved_tensors
    if kept:
        cotangent = g.item()
        if cotangent == 1.0:
            return kept[0], None, None, None, None
        # Scaling by a power of two is exact but for subnormals, which float16's narrow range makes likely.
        if abs(math.frexp(cotangent)[0]) == 0.5 and logits.dtype != torch.float16:
            return kept[0] * g.to(logits.dtype), None, None, None, None
    return _gradient(g, logits, targets, ctx.softcap, ctx.mean), None, None, None, None


_gradient = _kernel.operator(
    "gradient(Tensor g, Tensor logits, Tensor targets, float softcap, bool mean) -> Tensor",
    _compute_gradient,
    lambda g, logits, targets, softcap, mean: logits.new_empty(logits.shape),
)
_loss = _kernel.operator(
    "loss(Tensor logits, Tensor targets, float softcap, bool mean, bool keep) -> (Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def softcap_cross_entropy(logits: Tensor, targets: Tensor, softcap: float, reduction: str) -> Tensor:
    """Cross entropy of cap·tanh(logits / cap), logits (N,V), targets (N,) with −1 ignored; float32.

    () for "mean" over the targets that count, (N,) for "none" with 0 where ignored. Raises IndexError for a target that
    is neither a class nor −1, ValueError for another reduction.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; known: mean, none")
    mean = reduction == "mean"
    keep = mean and logits.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return _loss(logits, targets, softcap, mean, keep)[0]
