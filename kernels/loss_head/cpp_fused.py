"""Linear head and softcapped cross entropy in C++: loss and both gradients in one pass, without logits in memory.

Where a mean is trained, forward computes dx and dw for a cotangent of 1, and backward scales them. The
reduction "none" has a cotangent per row; its backward computes everything again. Without gradients there is one
product.
"""

from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, INTEGERS, POINTER, REAL
from autoresearch_cuda.operators import class_numbers, keep_for_backward

_kernel = native.load(__file__)
_scratch = _kernel.function("loss_head_scratch", INTEGER, INTEGER, INTEGER, CODE, CODE, INTEGERS)
_run = _kernel.function(
    "loss_head", *[POINTER] * 4, INTEGER, INTEGER, INTEGER, REAL, CODE, *[POINTER] * 4, INTEGER, POINTER
)


def _kept(x: Tensor, w_head: Tensor) -> torch.dtype:
    """Of dw between forward and backward, float16's range being too small for it. Only where backward will not round it
    once more: times a cotangent near 1 a number that is rounded already rounds back to itself. dx is small and float32.
    """
    narrow = x.dtype == torch.bfloat16 and w_head.dtype == torch.float32
    return torch.bfloat16 if narrow else torch.float32


def _call(
    x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, shares: Tensor | None, mean: bool, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    native.dtype_code(w_head)  # refuses what is no type of weights
    targets = class_numbers(targets, x).to(torch.int64)
    x, weights = x.contiguous(), w_head.float().contiguous()
    (rows, width), classes = x.shape, w_head.shape[0]
    size = native.integers([0])
    _scratch(rows, width, classes, native.dtype_code(x), int(gradient), size)
    scratch = torch.empty(size[0], dtype=torch.uint8)
    losses = torch.empty(rows, dtype=torch.float32)
    loss = torch.empty((), dtype=torch.float32) if mean else losses
    dx = torch.empty(x.shape if gradient else 0, dtype=torch.float32)
    dw = torch.empty(w_head.shape if gradient else 0, dtype=_kept(x, w_head))
    wrong = _run(
        x.data_ptr(),
        weights.data_ptr(),
        targets.data_ptr(),
        None if shares is None else shares.data_ptr(),
        rows,
        width,
        classes,
        softcap,
        native.dtype_code(x),
        losses.data_ptr(),
        loss.data_ptr() if mean else None,
        dx.data_ptr() if gradient else None,
        dw.data_ptr() if gradient else None,
        int(dw.dtype == torch.bfloat16),
        scratch.data_ptr(),
    )
    if wrong:
        raise IndexError(f"target {int(targets[wrong - 1])} of row {wrong - 1} is none of {classes} classes")
    return loss, dx, dw


def _compute(
    x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss () or (N,), and with `keep` dx and dw for a cotangent of 1, else empty tensors."""
    return _call(x, w_head, targets, softcap, None, mean, keep)


def _compute_gradients(
    g: Tensor, x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool
) -> tuple[Tensor, Tensor]:
    """dx and dw, in the dtypes of x and w_head, for the cotangent g, () or (N,)."""
    shares = g.float() / (targets != -1).sum().clamp(min=1) if mean else g.float()
    _, dx, dw = _call(x, w_head, targets, softcap, shares.expand(targets.shape).contiguous(), False, True)
    return dx.to(x.dtype), dw.to(w_head.dtype)


def _fake(
    x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty(() if mean else targets.shape, dtype=torch.float32)
    dx = x.new_empty(x.shape if keep else (0,), dtype=torch.float32)
    return loss, dx, x.new_empty(w_head.shape if keep else (0,), dtype=_kept(x, w_head))


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, w_head, targets, ctx.softcap, ctx.mean, ctx.keep = inputs
    ctx.dtypes = x.dtype, w_head.dtype
    keep_for_backward(ctx, *output[1:])
    ctx.save_for_backward(*(output[1:] if ctx.keep else (x, w_head, targets)))


def _differentiate(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.keep:
        # In float32, and rounded once: a product with a number that is a tensor has the array's dtype.
        dx, dw = ((kept.float() * g).to(dtype) for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
    else:
        x, w_head, targets = ctx.saved_tensors
        dx, dw = _gradients(g, x, w_head, targets, ctx.softcap, ctx.mean)
    return dx, dw, None, None, None, None


_gradients = _kernel.operator(
    "gradients(Tensor g, Tensor x, Tensor w_head, Tensor targets, float softcap, bool mean) -> (Tensor, Tensor)",
    _compute_gradients,
    lambda g, x, w_head, targets, softcap, mean: (x.new_empty(x.shape), w_head.new_empty(w_head.shape)),
)
_loss = _kernel.operator(
    "loss(Tensor x, Tensor w_head, Tensor targets, float softcap, bool mean, bool keep) -> (Tensor, Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def loss_head(x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, reduction: str) -> Tensor:
    """Softcapped cross entropy of the logits x w_headᵀ; float32, () for "mean", (N,) for "none" with 0 where ignored.

    x (N, C) and w_head (V, C) of any float dtype each; targets (N,) integer, −1 is ignored. bfloat16 x is multiplied
    with weights rounded to bfloat16 where the processor has such products, with float32 sums; others in float32. Raises
    IndexError for a target that is neither a class nor −1, ValueError for another reduction.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; known: mean, none")
    mean = reduction == "mean"
    keep = mean and (x.requires_grad or w_head.requires_grad) and torch.is_grad_enabled()
    return _loss(x, w_head, targets, softcap, mean, keep)[0]
