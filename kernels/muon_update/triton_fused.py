"""One Muon step in Triton: one pass before the polar factor, two after it; the factor is newton_schulz's kernel."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.kernel_files import part
from autoresearch_cuda.operators import write_back
from autoresearch_cuda.triton_kit import blocks

newton_schulz = part("newton_schulz")

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIDE = 64  # of the tiles of a matrix
NORMS = tl.constexpr(512)  # rows of the longer axis whose shares of a norm are added at a time


_CONFIGS = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((4096, 8), (2048, 4))]


@triton_kit.tuned(_CONFIGS, key=["count"], restore_value=["momentum"])
@triton.jit
def _average(grad, momentum, nesterov, count, mu, rest, BLOCK: tl.constexpr):
    """momentum ← mu · momentum + (1 − mu) · grad; nesterov = (1 − mu) · grad + mu · momentum."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gradient = tl.load(grad + at, inside, other=0.0).to(tl.float32) * rest
    average = tl.load(momentum + at, inside, other=0.0).to(tl.float32) * mu + gradient
    tl.store(momentum + at, average.to(momentum.dtype.element_ty), inside)
    tl.store(nesterov + at, gradient + average * mu, inside)


@triton.jit
def _mean_squares(
    x, second, means, kept, reduced, x_kept, x_reduced, beta2, rest2, SIDE: tl.constexpr
):  # fmt: skip
    """means (N, kept): of x² along the reduced axis of each matrix; second ← beta2 · second + (1 − beta2) · means."""
    matrix = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    x += matrix * kept * reduced
    total = tl.zeros((SIDE,), tl.float32)
    for start in range(0, reduced, SIDE):
        j = start + tl.arange(0, SIDE)
        inside = (i[:, None] < kept) & (j[None, :] < reduced)
        values = tl.load(x + i[:, None] * x_kept + j[None, :] * x_reduced, inside, other=0.0).to(tl.float32)
        total += tl.sum(values * values, axis=1)
    mean = total / reduced
    at = matrix * kept + i
    tl.store(means + at, mean, i < kept)
    running = tl.load(second + at, i < kept, other=0.0).to(tl.float32) * beta2 + mean * rest2
    tl.store(second + at, running.to(second.dtype.element_ty), i < kept)


@triton.jit
def _apply(
    p, x, second, means, kept, reduced, kept_stride, reduced_stride, lr, decay, SIDE: tl.constexpr
):  # fmt: skip
    """Even out the rows (or columns) of x, restore its Frobenius norm, then p ← p − lr · (x + decay · p where x p ≥ 0).

    Every program adds up the two norms of its matrix by itself, in the same order: 8 bytes per kept row, from the
    cache."""
    across = tl.cdiv(reduced, SIDE)
    tile, matrix = tl.program_id(0), tl.program_id(1).to(tl.int64)
    second += matrix * kept
    means += matrix * kept
    before = tl.zeros((NORMS,), tl.float32)
    after = tl.zeros((NORMS,), tl.float32)
    for start in range(0, kept, NORMS):
        i = start + tl.arange(0, NORMS)
        mean = tl.load(means + i, i < kept, other=0.0)
        before += mean
        after += mean / tl.maximum(tl.load(second + i, i < kept, other=1.0).to(tl.float32), 1e-10)
    restoring = tl.sqrt_rn(tl.sum(before)) / tl.maximum(tl.sqrt_rn(tl.sum(after)), 1e-10)
    i = tile // across * SIDE + tl.arange(0, SIDE)
    j = tile % across * SIDE + tl.arange(0, SIDE)
    running = tl.maximum(tl.load(second + i, i < kept, other=1.0).to(tl.float32), 1e-10)
    scale = restoring / tl.sqrt_rn(running)
    inside = (i[:, None] < kept) & (j[None, :] < reduced)
    at = matrix * kept * reduced + i[:, None] * kept_stride + j[None, :] * reduced_stride
    update = tl.load(x + at, inside, other=0.0).to(tl.float32) * scale[:, None]
    weight = tl.load(p + at, inside, other=0.0).to(tl.float32)
    decayed = tl.where(update * weight >= 0, weight * decay, 0.0)
    tl.store(p + at, (weight - lr * (update + decayed)).to(p.dtype.element_ty), inside)


def _check(*states: Tensor) -> None:
    if any(state.dtype not in _DTYPES for state in states):
        raise NotImplementedError(f"muon_update of {', '.join(str(state.dtype) for state in states)}")


def _compute_nesterov(grad: Tensor, momentum: Tensor, mu: float) -> Tensor:
    _check(grad, momentum)
    nesterov = torch.empty(grad.shape, dtype=torch.float32, device=grad.device)
    count = grad.numel()
    if count:
        dense = momentum.contiguous()
        _average[blocks(count, "BLOCK")](grad.contiguous(), dense, nesterov, count, mu, 1 - mu)
        write_back([momentum], [dense])
    return nesterov


def _compute_step(p: Tensor, x: Tensor, second_momentum: Tensor, rates: list[float]) -> None:
    _check(p, second_momentum)
    count, rows, columns = p.shape
    if not p.numel():
        return
    lr, decay, beta2, rest2 = rates
    states = (p, second_momentum)
    dense_p, dense_second = dense = [state.contiguous() for state in states]
    x = x.contiguous()
    means = torch.empty_like(dense_second, dtype=torch.float32)
    # The mean square is along the shorter axis; the other one is kept.
    (kept, reduced), strides = ((rows, columns), (columns, 1)) if rows >= columns else ((columns, rows), (1, columns))
    tall, wide = triton.cdiv(kept, SIDE), triton.cdiv(reduced, SIDE)
    _mean_squares[(tall, count)](x, dense_second, means, kept, reduced, *strides, beta2, rest2, SIDE=SIDE)
    _apply[(tall * wide, count)](dense_p, x, dense_second, means, kept, reduced, *strides, lr, decay, SIDE=SIDE)
    write_back(states, dense)


_operators = triton_kit.operators(__file__)
_nesterov = _operators.define(
    "nesterov(Tensor grad, Tensor(a!) momentum, float mu) -> Tensor",
    _compute_nesterov,
    lambda grad, momentum, mu: grad.new_empty(grad.shape, dtype=torch.float32),
)
_step = _operators.define(
    "step(Tensor(a!) p, Tensor x, Tensor(b!) second_momentum, float[] rates) -> ()",
    _compute_step,
    lambda p, x, second_momentum, rates: None,
)


@torch.no_grad()
def muon_update(
    p: Tensor,
    grad: Tensor,
    momentum: Tensor,
    second_momentum: Tensor,
    mu: float,
    lr: float,
    weight_decay: float,
    beta2: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update p (N,R,C) and both momenta in place and return them; grad is left as it is.

    second_momentum (N,R,1) if R ≥ C, else (N,1,C). float32, bfloat16 and float16 are worked on in float32; for others
    NotImplementedError is raised.
    """
    x = newton_schulz(_nesterov(grad, momentum, mu), steps)
    _step(p, x, second_momentum, [lr, weight_decay, beta2, 1 - beta2])
    return p, momentum, second_momentum


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's stacks: tall and wide matrices."""
    settings = (0.95, 0.02, 0.2, 0.95, 1)
    return [
        (*(torch.empty(2, rows, columns) for _ in range(3)), torch.empty(second), *settings)
        for rows, columns, second in ((2048, 512, (2, 2048, 1)), (512, 2048, (2, 1, 2048)))
    ]
