"""The head's product and the softcapped cross entropy in chunks of rows: logits exist for one chunk at a time.

Per chunk a library product gives the logits, one Triton pass turns them into losses and, in place, into their gradient
for a row's cotangent of 1, and two more products turn that into the chunk's part of dx and dw. So training keeps dx and
dw (float32, summed over the chunks in a fixed order) instead of the logits, and backward only scales them: the mean's
factor and the cotangent are met in float32, before the one rounding. The reduction "none" has a cotangent per row; its
backward computes the chunks again.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import class_numbers, keep_for_backward
from autoresearch_cuda.triton_device import LARGEST_CAP, softcap, softcapped_rows

CHUNK_LOGITS = 1 << 27  # logits that exist at a time: 256 MiB in bfloat16
IGNORED = tl.constexpr(-1)

# TILE: logits that a program holds at once, as whole rows; a row longer than that is held alone.
_CONFIGS = [triton.Config({"TILE": tile}, num_warps=warps) for tile, warps in ((8192, 16), (4096, 8), (2048, 4))]
# Besides the row's logits there are two or three single numbers per row.
LEAST_VECTOR_SHARE = {"_rows": 0.6}


def _fitting(configs: list[triton.Config], arguments: dict[str, Any], **sizes: Any) -> list[triton.Config]:
    """No more than 512 logits per warp, where that can be: with twice as many the registers do not suffice."""
    held = sizes["COLUMNS"]
    return [config for config in configs if max(config.kwargs["TILE"], held) <= 512 * config.num_warps] or configs[:1]


# Tuning runs a kernel many times over: it must find the same logits each time.
@triton_kit.tuned(_CONFIGS, key=["classes"], prune=_fitting, restore_value=["logits"])
@triton.jit
def _rows(
    logits, targets, shares, losses, rows, classes, cap,
    LOSS: tl.constexpr, GRADIENT: tl.constexpr, BY_MAXIMUM: tl.constexpr, WHOLE: tl.constexpr, COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """LOSS: losses (rows,), shares unused. GRADIENT: the logits become their gradient, (softmax − onehot)(1 − tanh²)
    times the row's share; 1 with LOSS. A row is read whole before any of it is written."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    # What there is one of per row is kept in vectors of rows: as a column of the tile, Triton 3.6 has every thread load
    # the same number once for each of its registers.
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)[None, :]
    inside, exists_column = row < rows, column < classes
    within = inside[:, None] if WHOLE else inside[:, None] & exists_column
    row = row.to(tl.int64)
    target = tl.load(targets + row, inside, other=IGNORED)
    counted = target != IGNORED
    exists = (target >= 0) & (target < classes)
    at = logits + row[:, None] * classes + column
    values = tl.load(at, within, other=0.0).to(tl.float32)
    if LOSS:
        # The one logit of the target comes from the cache: cheaper than a third reduction over the row, for which the
        # row would have to stay in registers. Every warp has it before any writes the gradient over it.
        at_target = tl.load(logits + row * classes + target, inside & exists, other=float("nan")).to(tl.float32)
        tl.debug_barrier()
    exponential, total, slope, least = softcapped_rows(values, exists_column, cap, BY_MAXIMUM, WHOLE)
    if LOSS:
        # A target that is no class has given NaN.
        picked, _ = softcap(at_target, cap)
        loss = tl.log(total) + 2.0 * cap * (picked - least)
        tl.store(losses + row, tl.where(counted, loss, 0.0), inside)
    if GRADIENT:
        share = 1.0 if LOSS else tl.load(shares + row, inside, other=0.0)
        share = tl.where(exists, 4.0 * share, tl.where(counted, float("nan"), 0.0))
        onehot = tl.where(column == target.to(tl.int32)[:, None], 1.0, 0.0)
        result = (exponential * (1.0 / total)[:, None] - onehot) * (slope * share[:, None])
        tl.store(at, result.to(logits.dtype.element_ty), within)


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """out = a b in float32. The GPU's library gives the float32 sums of half-precision operands as they are."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    return torch.mm(a.float(), b.float(), out=out)


def _chunks(rows: int, classes: int) -> list[slice]:
    step = max(1, CHUNK_LOGITS // max(1, classes))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _launch(logits: Tensor, targets: Tensor, softcap: float, losses: Tensor | None, **how: Any) -> None:
    """how: `gradient`, whether the logits become their gradient, and its `shares` (rows,) where there are no losses."""
    rows, classes = logits.shape
    columns, shares = triton_kit.columns(classes), how.get("shares")
    _rows[triton_kit.tile_grid(rows)](
        logits,
        targets,
        targets if shares is None else shares,
        shares if losses is None else losses,
        rows,
        classes,
        softcap,
        LOSS=losses is not None,
        GRADIENT=how["gradient"],
        BY_MAXIMUM=abs(softcap) > LARGEST_CAP or classes == 1,  # a single class has exactly 1
        WHOLE=columns == classes,
        COLUMNS=columns,
    )


def _prepare(x: Tensor, w_head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The weights in x's dtype, and dense targets."""
    return w_head.to(x.dtype), class_numbers(targets, x)


def _compute(
    x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss () or (N,), and with `keep` dx and dw in float32 for a cotangent of 1 of each row, else empty tensors."""
    weights, targets = _prepare(x, w_head, targets)
    losses = torch.empty(targets.shape, dtype=torch.float32, device=x.device)
    dx = torch.empty(x.shape if keep else 0, dtype=torch.float32, device=x.device)
    dw = torch.zeros(w_head.shape if keep else 0, dtype=torch.float32, device=x.device)
    part = torch.empty_like(dw)
    for rows in _chunks(x.shape[0], w_head.shape[0]):
        logits = x[rows] @ weights.T
        _launch(logits, targets[rows], softcap, losses[rows], gradient=keep)
        if keep:
            _product(logits, weights, dx[rows])
            dw += _product(logits.T, x[rows], part)
    return losses.sum() / (targets != -1).sum() if mean else losses, dx, dw


def _compute_gradients(
    g: Tensor, x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool
) -> tuple[Tensor, Tensor]:
    """dx and dw, in the dtypes of x and w_head, for the cotangent g, () or (N,)."""
    weights, targets = _prepare(x, w_head, targets)
    shares = (g.float() / (targets != -1).sum() if mean else g.float()).expand(targets.shape).contiguous()
    dx = x.new_empty(x.shape)
    dw = torch.zeros(w_head.shape, dtype=torch.float32, device=x.device)
    part = torch.empty_like(dw)
    for rows in _chunks(x.shape[0], w_head.shape[0]):
        logits = x[rows] @ weights.T
        _launch(logits, targets[rows], softcap, None, shares=shares[rows], gradient=True)
        torch.mm(logits, weights, out=dx[rows])
        dw += _product(logits.T, x[rows], part)
    return dx, dw.to(w_head.dtype)


def _fake(
    x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty(() if mean else targets.shape, dtype=torch.float32)
    kept = (source.new_empty(source.shape if keep else (0,), dtype=torch.float32) for source in (x, w_head))
    return loss, *kept


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, w_head, targets, ctx.softcap, ctx.mean, ctx.keep = inputs
    ctx.dtypes = x.dtype, w_head.dtype
    keep_for_backward(ctx, *output[1:])
    ctx.save_for_backward(targets, *(output[1:] if ctx.keep else (x, w_head)))


def _differentiate(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    targets, *tensors = ctx.saved_tensors
    if ctx.keep:
        # Without any target that counts both are zero, and stay so.
        factor = g / (targets != -1).sum().clamp(min=1)
        dx, dw = ((kept * factor).to(dtype) for kept, dtype in zip(tensors, ctx.dtypes, strict=True))
    else:
        dx, dw = _gradients(g, *tensors, targets, ctx.softcap, ctx.mean)
    return dx, dw, None, None, None, None


_operators = triton_kit.operators(__file__)
_gradients = _operators.define(
    "gradients(Tensor g, Tensor x, Tensor w_head, Tensor targets, float softcap, bool mean) -> (Tensor, Tensor)",
    _compute_gradients,
    lambda g, x, w_head, targets, softcap, mean: (x.new_empty(x.shape), w_head.new_empty(w_head.shape)),
)
_loss = _operators.define(
    "loss(Tensor x, Tensor w_head, Tensor targets, float softcap, bool mean, bool keep) -> (Tensor, Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def loss_head(x: Tensor, w_head: Tensor, targets: Tensor, softcap: float, reduction: str) -> Tensor:
    """Softcapped cross entropy of the logits x w_headᵀ, which are computed in x's dtype; float32.

    x (N,C), w_head (V,C) of any float dtype, targets (N,) with −1 ignored; () for "mean" over the targets that count,
    (N,) for "none" with 0 where ignored. A target that is neither a class nor −1 makes its loss and its gradients NaN.
    Raises ValueError for another reduction, NotImplementedError for more than 16384 classes.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; known: mean, none")
    mean = reduction == "mean"
    keep = mean and (x.requires_grad or w_head.requires_grad) and torch.is_grad_enabled()
    return _loss(x, w_head, targets, softcap, mean, keep)[0]


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call with its vocabulary: one pass for the mean, one each way without a reduction."""
    x, w_head, targets = torch.empty(512, 512, dtype=torch.bfloat16), torch.empty(8192, 512), torch.zeros(512).long()
    return [(x, w_head, targets, 15.0, reduction) for reduction in ("mean", "none")]
