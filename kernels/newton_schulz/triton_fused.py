"""The Polar Express iteration in Triton, batched: of the symmetric products A = X Xᵀ and b A + c A² only the tiles on
and below the diagonal are computed, and each is stored a second time, transposed.

Matrices are seen with their shorter side as rows, whichever side that is: only the strides differ. What is stored
between the products is bfloat16, as the baseline's; the products are on bfloat16 and add in float32, and what is added
to them is added before the one rounding.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit

# (a, b, c) of the odd quintic p(x) = a·x + b·x³ + c·x⁵ per iteration; further iterations repeat the last. Amsel et al.,
# arXiv 2505.16932.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
CHUNK = 8192  # elements of a matrix that a program squares or scales


def _configs(*choices: tuple[int, int, int, int]) -> list[triton.Config]:
    """Of (side of a tile, elements of a sum at a time, warps, stages)."""
    return [
        triton.Config({"TILE": tile, "DEPTH": depth}, num_warps=warps, num_stages=stages)
        for tile, depth, warps, stages in choices
    ]


_tiles = triton_kit.tuned(
    _configs((64, 64, 4, 3), (128, 64, 8, 3), (128, 32, 8, 3), (32, 64, 4, 3)), ["size", "length"]
)


@triton.jit
def _sum_squares(g, partials, count, CHUNK: tl.constexpr):
    """partials (N, chunks): the sum of squares of each chunk of each matrix, which has `count` elements."""
    chunk, matrix = tl.program_id(0), tl.program_id(1)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    values = tl.load(g + matrix.to(tl.int64) * count + at, at < count, other=0.0).to(tl.float32)
    tl.store(partials + matrix * tl.num_programs(0) + chunk, tl.sum(values * values))


@triton.jit
def _normalise(g, partials, x, count, CHUNK: tl.constexpr, PARTS: tl.constexpr):
    """x = g / (1.02 ‖g‖ + 1e-6), the norm from the chunks' sums, always added in the same order."""
    chunk, matrix = tl.program_id(0), tl.program_id(1)
    part = tl.arange(0, PARTS)
    chunks = tl.num_programs(0)
    total = tl.sum(tl.load(partials + matrix * chunks + part, part < chunks, other=0.0))
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = at < count
    at = matrix.to(tl.int64) * count + at
    values = tl.load(g + at, inside, other=0.0).to(tl.float32) / (tl.sqrt_rn(total) * 1.02 + 1e-6)
    tl.store(x + at, values.to(x.dtype.element_ty), inside)


@_tiles
@triton.jit
def _symmetric(
    x, y, size, length, x_row, x_column, of_x, of_product, ADD: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr
):
    """y = of_product · x xᵀ, plus of_x · x with ADD; x (N, size, length), with ADD square and symmetric; y dense.

    One program per tile on or below the diagonal, counted row by row: row r of tiles has r + 1."""
    tile, matrix = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = ((tl.sqrt(8.0 * tile + 1.0) - 1.0) * 0.5).to(tl.int32)
    # The root is not exact.
    row = tl.where(row * (row + 1) // 2 > tile, row - 1, row)
    row = tl.where((row + 1) * (row + 2) // 2 <= tile, row + 1, row)
    column = tile - row * (row + 1) // 2
    i, j = row * TILE + tl.arange(0, TILE), column * TILE + tl.arange(0, TILE)
    x += matrix * size * length
    total = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, length, DEPTH):
        k = start + tl.arange(0, DEPTH)
        inside = k[None, :] < length
        left = tl.load(x + i[:, None] * x_row + k[None, :] * x_column, (i[:, None] < size) & inside, other=0.0)
        right = tl.load(x + j[:, None] * x_row + k[None, :] * x_column, (j[:, None] < size) & inside, other=0.0)
        total = tl.dot(left, tl.trans(right), total)
    total *= of_product
    inside = (i[:, None] < size) & (j[None, :] < size)
    if ADD:
        total += of_x * tl.load(x + i[:, None] * x_row + j[None, :] * x_column, inside, other=0.0).to(tl.float32)
    result = total.to(y.dtype.element_ty)
    y += matrix * size * size
    tl.store(y + i[:, None] * size + j[None, :], result, inside)
    if row != column:
        # Mirrored by where it is written: transposing a product in registers has gone wrong on Hopper.
        tl.store(y + j[None, :] * size + i[:, None], result, inside)


@_tiles
@triton.jit
def _advance(p, x, y, size, length, x_row, x_column, of_x, TILE: tl.constexpr, DEPTH: tl.constexpr):
    """y = of_x · x + p x; p (N, size, size) dense, x and y (N, size, length) with the same strides."""
    across = tl.cdiv(length, TILE)
    tile, matrix = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, j = tile // across * TILE + tl.arange(0, TILE), tile % across * TILE + tl.arange(0, TILE)
    p += matrix * size * size
    x += matrix * size * length
    total = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, size, DEPTH):
        k = start + tl.arange(0, DEPTH)
        left = tl.load(p + i[:, None] * size + k[None, :], (i[:, None] < size) & (k[None, :] < size), other=0.0)
        right = tl.load(
            x + k[:, None] * x_row + j[None, :] * x_column, (k[:, None] < size) & (j[None, :] < length), other=0.0
        )
        total = tl.dot(left, right, total)
    at = i[:, None] * x_row + j[None, :] * x_column
    inside = (i[:, None] < size) & (j[None, :] < length)
    total += of_x * tl.load(x + at, inside, other=0.0).to(tl.float32)
    tl.store(y + matrix * size * length + at, total.to(y.dtype.element_ty), inside)


def _normalised(g: Tensor) -> Tensor:
    count, elements = g.shape[0], g.shape[1] * g.shape[2]
    chunks = triton.cdiv(elements, CHUNK)
    partials = torch.empty((count, chunks), dtype=torch.float32, device=g.device)
    x = torch.empty(g.shape, dtype=torch.bfloat16, device=g.device)
    g = g.contiguous()
    _sum_squares[(chunks, count)](g, partials, elements, CHUNK=CHUNK, num_warps=8)
    _normalise[(chunks, count)](
        g, partials, x, elements, CHUNK=CHUNK, PARTS=triton.next_power_of_2(chunks), num_warps=8
    )  # fmt: skip
    return x


def _compute(g: Tensor, steps: int) -> Tensor:
    if not g.numel():
        return torch.empty(g.shape, dtype=torch.bfloat16, device=g.device)
    x = _normalised(g)
    count, rows, columns = g.shape
    size, length = min(rows, columns), max(rows, columns)
    strides = (1, columns) if rows > columns else (columns, 1)
    gram, poly = (torch.empty((count, size, size), dtype=torch.bfloat16, device=g.device) for _ in range(2))
    y = torch.empty_like(x)

    def half(meta: dict[str, int]) -> tuple[int, int]:
        side = triton.cdiv(size, meta["TILE"])
        return side * (side + 1) // 2, count

    def whole(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(size, meta["TILE"]) * triton.cdiv(length, meta["TILE"]), count

    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        _symmetric[half](x, gram, size, length, *strides, 0.0, 1.0, ADD=False)
        _symmetric[half](gram, poly, size, size, size, 1, b, c, ADD=True)
        _advance[whole](poly, x, y, size, length, *strides, a)
        x, y = y, x
    return x


_operators = triton_kit.operators(__file__)
_iterate = _operators.define(
    "iterate(Tensor g, int steps) -> Tensor", _compute, lambda g, steps: g.new_empty(g.shape, dtype=torch.bfloat16)
)


@torch.no_grad()
def newton_schulz(g: Tensor, steps: int) -> Tensor:
    """Approximate the orthogonal polar factor U·Vᵀ of every matrix in g.

    g (N,R,C), any float dtype and strides; x (N,R,C) bfloat16, contiguous. Each matrix is normalised by its own
    Frobenius norm (times 1.02, plus 1e-6). No gradient.
    """
    return _iterate(g, steps)


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's stacks: square, wide, and tall matrices."""
    return [(torch.empty(2, rows, columns), 1) for rows, columns in ((512, 512), (512, 2048), (2048, 512))]
