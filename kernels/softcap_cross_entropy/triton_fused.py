"""Softcapped cross entropy in Triton: a row of logits is read once and gives its loss and its gradient, float32 inside.

Eager training gets the gradient for cotangent 1 with the loss, and the first backward hands it out: as it is for the
cotangent 1, scaled in place for a power of two, computed again in place for any other, so that it is always rounded
once. Which it is only the device knows, and decides. Every compiled graph and the reduction "none" recompute from the
logits. Without gradients only the loss is computed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import class_numbers, keep_for_backward
from autoresearch_cuda.triton_device import LARGEST_CAP, softcap, softcapped_rows

SCALED = 8192  # elements that a program scales at a time
PER_PROCESSOR = 4  # programs of the launches of backward, which mostly find nothing to do
IGNORED = tl.constexpr(-1)

# TILE: logits that a program holds at once, as whole rows; a row longer than that is held alone.
_CONFIGS = [triton.Config({"TILE": tile}, num_warps=warps) for tile, warps in ((8192, 8), (4096, 4), (8192, 16))]


def _fitting(configs: list[triton.Config], arguments: dict[str, Any], **sizes: Any) -> list[triton.Config]:
    """No more than 1,024 logits per warp, where that can be: with twice as many the registers do not suffice."""
    held = sizes["COLUMNS"]
    return [config for config in configs if max(config.kwargs["TILE"], held) <= 1024 * config.num_warps] or configs[-1:]


# Besides the row's logits there are two or three single numbers per row.
LEAST_VECTOR_SHARE = {"_rows": 0.6}


@triton.jit
def _is_exact_factor(factor, IN_DTYPE: tl.constexpr):
    """Whether a gradient of this dtype times the float32 factor needs no rounding: a normal power of two. Not in
    float16, whose narrow range makes subnormal results likely."""
    bits = factor.to(tl.int32, bitcast=True)
    exponent = (bits >> 23) & 0xFF
    power = ((bits & 0x7FFFFF) == 0) & (exponent > 0) & (exponent < 0xFF)
    return (factor == 1.0) | (power & (IN_DTYPE != tl.float16))


@triton.jit
def _tile(
    number, logits, targets, shares, losses, gradient, rows, classes, row_stride, share_stride, cap,
    LOSS: tl.constexpr, GRADIENT: tl.constexpr, BY_MAXIMUM: tl.constexpr, WHOLE: tl.constexpr, COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of the ROWS rows of the tile with that number; see `_rows`."""
    # What there is one of per row is kept in vectors of rows: as a column of the tile, Triton 3.6 has every thread load
    # the same number once for each of its registers.
    row = number * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)[None, :]
    inside, exists_column = row < rows, column < classes
    within = inside[:, None] if WHOLE else inside[:, None] & exists_column
    row = row.to(tl.int64)
    target = tl.load(targets + row, inside, other=IGNORED)
    counted = target != IGNORED
    exists = (target >= 0) & (target < classes)
    values = tl.load(logits + row[:, None] * row_stride + column, within, other=0.0).to(tl.float32)
    exponential, total, slope, least = softcapped_rows(values, exists_column, cap, BY_MAXIMUM, WHOLE)
    if LOSS:
        # The one logit of the target comes from the cache: cheaper than a third reduction over the row.
        at_target = tl.load(logits + row * row_stride + target, inside & exists, other=float("nan")).to(tl.float32)
        picked, _ = softcap(at_target, cap)
        loss = tl.log(total) + 2.0 * cap * (picked - least)
        tl.store(losses + row, tl.where(counted, loss, 0.0), inside)
    if GRADIENT:
        share = tl.load(shares + row * share_stride, inside, other=0.0)
        # A target that is no class must not pass for one: its row becomes NaN, as its loss.
        share = tl.where(exists, 4.0 * share, tl.where(counted, float("nan"), 0.0))
        onehot = tl.where(column == target.to(tl.int32)[:, None], 1.0, 0.0)
        result = (exponential * (1.0 / total)[:, None] - onehot) * (slope * share[:, None])
        at = gradient + row[:, None] * classes + column
        tl.store(at, result.to(gradient.dtype.element_ty), within)


@triton_kit.tuned(_CONFIGS, key=["classes"], prune=_fitting)
@triton.jit
def _rows(
    logits, targets, shares, losses, gradient, factor, rows, classes, row_stride, share_stride, cap,
    LOSS: tl.constexpr, GRADIENT: tl.constexpr, IF_INEXACT: tl.constexpr, BY_MAXIMUM: tl.constexpr, WHOLE: tl.constexpr,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of whole rows; the gradient is (softmax − onehot)(1 − tanh²) times the row's share.

    IF_INEXACT: nothing is done where scaling by `factor` is exact; programs stay and take one tile after the other,
    for to start one per tile only to find that out takes as long as a small kernel."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    if IF_INEXACT:
        if _is_exact_factor(tl.load(factor), gradient.dtype.element_ty):
            return
        for number in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
            _tile(
                number, logits, targets, shares, losses, gradient, rows, classes, row_stride, share_stride, cap,
                LOSS, GRADIENT, BY_MAXIMUM, WHOLE, COLUMNS, ROWS,
            )  # fmt: skip
    else:
        _tile(
            tl.program_id(0), logits, targets, shares, losses, gradient, rows, classes, row_stride, share_stride, cap,
            LOSS, GRADIENT, BY_MAXIMUM, WHOLE, COLUMNS, ROWS,
        )  # fmt: skip


@triton.jit
def _scale_in_place(gradient, factor, count, BLOCK: tl.constexpr):
    """gradient ← gradient · factor where that is exact and changes anything; programs stay, as in `_rows`."""
    by = tl.load(factor)
    if _is_exact_factor(by, gradient.dtype.element_ty) & (by != 1.0):
        for number in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
            at = tl.cast(number, tl.int64) * BLOCK + tl.arange(0, BLOCK)
            values = tl.load(gradient + at, at < count).to(tl.float32) * by
            tl.store(gradient + at, values.to(gradient.dtype.element_ty), at < count)


def _prepare(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits with dense rows, which may lie apart, and dense targets."""
    return logits if logits.stride(1) == 1 else logits.contiguous(), class_numbers(targets, logits)


def _launch(
    logits: Tensor,
    targets: Tensor,
    softcap: float,
    shares: Tensor,
    losses: Tensor | None,
    gradient: Tensor | None,
    factor: Tensor | None = None,
) -> None:
    """Fill what is not None. shares: () or (N,) float32. factor: see `_rows`."""
    rows, classes = logits.shape
    if not rows * classes:
        return
    columns, grid = triton_kit.columns(classes), triton_kit.tile_grid(rows)
    if factor is not None:
        grid = triton_kit.at_most(grid, triton_kit.resident(logits, PER_PROCESSOR))
    _rows[grid](
        logits,
        targets,
        shares,
        shares if losses is None else losses,
        logits if gradient is None else gradient,
        shares if factor is None else factor,
        rows,
        classes,
        logits.stride(0),
        shares.dim(),
        softcap,
        LOSS=losses is not None,
        GRADIENT=gradient is not None,
        IF_INEXACT=factor is not None,
        BY_MAXIMUM=abs(softcap) > LARGEST_CAP or classes == 1,  # a single class has exactly 1
        WHOLE=columns == classes,
        COLUMNS=columns,
    )


def _compute(logits: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Loss () or (N,), and with `keep` the gradient (N,V) for cotangent 1, else an empty tensor."""
    logits, targets = _prepare(logits, targets)
    losses = torch.empty(targets.shape, dtype=torch.float32, device=logits.device)
    gradient = logits.new_empty(logits.shape if keep else (0,))
    count = (targets != -1).sum().float()
    _launch(logits, targets, softcap, count.reciprocal(), losses, gradient if keep else None)
    return losses.sum() / count if mean else losses, gradient


def _compute_gradient(g: Tensor, logits: Tensor, targets: Tensor, softcap: float, mean: bool) -> Tensor:
    """(N,V) for the cotangent g, () or (N,)."""
    logits, targets = _prepare(logits, targets)
    gradient = logits.new_empty(logits.shape)
    shares = (g.float() / (targets != -1).sum() if mean else g.float()).contiguous()
    _launch(logits, targets, softcap, shares, None, gradient)
    return gradient


def _compute_rescaling(gradient: Tensor, g: Tensor, logits: Tensor, targets: Tensor, softcap: float) -> None:
    """From the kept gradient, that of the mean for cotangent 1, to the one for the cotangent g ()."""
    if not gradient.numel():
        return
    g, (logits, targets) = g.float(), _prepare(logits, targets)
    count = gradient.numel()
    programs = min(triton.cdiv(count, SCALED), triton_kit.resident(gradient, PER_PROCESSOR))
    _scale_in_place[(programs,)](gradient, g, count, BLOCK=SCALED, num_warps=8)
    _launch(logits, targets, softcap, g / (targets != -1).sum(), None, gradient, factor=g)


def _fake(logits: Tensor, targets: Tensor, softcap: float, mean: bool, keep: bool) -> tuple[Tensor, Tensor]:
    loss = logits.new_empty(() if mean else targets.shape, dtype=torch.float32)
    return loss, logits.new_empty(logits.shape if keep else (0,))


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    logits, targets, ctx.softcap, ctx.mean, keep = inputs
    keep_for_backward(ctx, output[1])
    ctx.save_for_backward(logits, targets)
    # Not among the saved tensors, which must never be written to; this one is handed out, and then forgotten.
    ctx.gradient = output[1] if keep else None


def _differentiate(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    logits, targets = ctx.saved_tensors
    if ctx.gradient is None:
        return _gradient(g, logits, targets, ctx.softcap, ctx.mean), None, None, None, None
    gradient, ctx.gradient = ctx.gradient, None
    _rescale(gradient, g, logits, targets, ctx.softcap)
    return gradient, None, None, None, None


_operators = triton_kit.operators(__file__)
_rescale = _operators.define(
    "rescale(Tensor(a!) gradient, Tensor g, Tensor logits, Tensor targets, float softcap) -> ()",
    _compute_rescaling,
    lambda gradient, g, logits, targets, softcap: None,
)
_gradient = _operators.define(
    "gradient(Tensor g, Tensor logits, Tensor targets, float softcap, bool mean) -> Tensor",
    _compute_gradient,
    lambda g, logits, targets, softcap, mean: logits.new_empty(logits.shape),
)
_loss = _operators.define(
    "loss(Tensor logits, Tensor targets, float softcap, bool mean, bool keep) -> (Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def softcap_cross_entropy(logits: Tensor, targets: Tensor, softcap: float, reduction: str) -> Tensor:
    """Cross entropy of cap·tanh(logits / cap), logits (N,V) of any float dtype, targets (N,) with −1 ignored; float32.

    () for "mean" over the targets that count, (N,) for "none" with 0 where ignored. A target that is neither a class
    nor −1 makes its loss and its row of the gradient NaN. Raises ValueError for another reduction, NotImplementedError
    for more than 16384 classes.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; known: mean, none")
    mean = reduction == "mean"
    keep = mean and logits.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return _loss(logits, targets, softcap, mean, keep)[0]


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call with its vocabulary, in bfloat16 and in float32."""
    targets = torch.zeros(512, dtype=torch.int64)
    return [(torch.empty(512, 8192, dtype=dtype), targets, 15.0, "mean") for dtype in (torch.bfloat16, torch.float32)]
