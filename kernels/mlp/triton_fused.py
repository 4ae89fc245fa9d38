"""The MLP with its activation inside the matrix products in Triton, forward and backward.

max(x w_fcᵀ, 0)² is formed in the first product's epilogue; the hidden values themselves never reach memory. Only their
activation is kept: its root is what backward needs, and is taken in the epilogue of the product with w_proj (float16,
whose squares lose digits, keeps the root as well). Both run as persistent programs, two per processor of the GPU. The
other products have nothing to fuse and are the library's.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import keep_for_backward

PER_PROCESSOR = 2  # programs; where two fit, one multiplies while the other is at a tile's end


def _configs(*choices: tuple[int, int, int, int, int]) -> list[triton.Config]:
    """Of (rows and columns of a tile, elements of a sum at a time, warps, stages)."""
    return [
        triton.Config({"ROWS": rows, "COLUMNS": columns, "DEPTH": depth}, num_warps=warps, num_stages=stages)
        for rows, columns, depth, warps, stages in choices
    ]


def _fitting(configs: list[triton.Config], arguments: dict[str, Any], **_: Any) -> list[triton.Config]:
    """Tiles of float32 take twice the room, and its products no tensor cores: only the small ones."""
    small = [config for config in configs if config.kwargs["ROWS"] * config.kwargs["COLUMNS"] <= 4096]
    return small if arguments["a"].dtype == torch.float32 else [config for config in configs if config not in small]


@triton_kit.tuned(
    _configs((128, 128, 64, 8, 3), (128, 128, 32, 8, 3), (128, 64, 64, 4, 3), (64, 64, 32, 8, 2)),
    key=["rows", "columns", "depth", "BACKWARD"],
    prune=_fitting,
)
@triton.jit
def _product(
    a, b, kept, y, rows, columns, depth, a_row, a_depth, b_column, b_depth,
    BACKWARD: tl.constexpr, HIDDEN: tl.constexpr, BAND: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """y = r² with r = max(a bᵀ, 0), or with BACKWARD y = a bᵀ · 2 r; a (rows, depth), b (columns, depth), y dense.

    r for the way back comes from `kept`, which is r² or, with HIDDEN, r itself, stored on the way there.

    Persistent: a program takes every n-th tile. Tiles are numbered in bands of BAND tile rows, column by column, so
    that programs that run at the same time share what they read."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    for tile in range(tl.program_id(0), down * across, tl.num_programs(0)):
        band = tile // (BAND * across)
        height = tl.minimum(down - band * BAND, BAND)
        within = tile % (BAND * across)
        i = (band * BAND + within % height) * ROWS + tl.arange(0, ROWS)
        j = within // height * COLUMNS + tl.arange(0, COLUMNS)
        i_64, j_64 = i[:, None].to(tl.int64), j[None, :].to(tl.int64)
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in range(0, depth, DEPTH):
            k = start + tl.arange(0, DEPTH)
            left = tl.load(
                a + i_64 * a_row + k[None, :] * a_depth, (i[:, None] < rows) & (k[None, :] < depth), other=0.0
            )
            right = tl.load(
                b + j_64 * b_column + k[:, None] * b_depth, (j[None, :] < columns) & (k[:, None] < depth), other=0.0
            )
            total = tl.dot(left, right, total, input_precision="ieee")
        at = i_64 * columns + j_64
        inside = (i[:, None] < rows) & (j[None, :] < columns)
        if BACKWARD:
            hidden = tl.load(kept + at, inside, other=0.0).to(tl.float32)
            total *= 2.0 * (hidden if HIDDEN else tl.sqrt(hidden))
        else:
            # A NaN stays one: no maximum, which may drop it.
            total = tl.where(total < 0, 0.0, total)
            if HIDDEN:
                tl.store(kept + at, total.to(kept.dtype.element_ty), inside)
            total *= total
        tl.store(y + at, total.to(y.dtype.element_ty), inside)


def _keeps_hidden(dtype: torch.dtype) -> bool:
    """The square of a small value has few digits left in float16, and its root no more."""
    return dtype == torch.float16


def _launch(a: Tensor, b: Tensor, kept: Tensor | None, *, backward: bool) -> Tensor:
    """a (M,K), b (N,K), kept (M,N), None where it is the result: see `_product`."""
    (rows, depth), columns = a.shape, b.shape[0]
    y = torch.empty((rows, columns), dtype=a.dtype, device=a.device)
    if not y.numel():
        return y

    def tiles(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(columns, meta["COLUMNS"]),)

    _product[triton_kit.at_most(tiles, triton_kit.resident(a, PER_PROCESSOR))](
        a, b, y if kept is None else kept, y, rows, columns, depth, *a.stride(), *b.stride(),
        BACKWARD=backward, HIDDEN=_keeps_hidden(a.dtype), BAND=8,
    )  # fmt: skip
    return y


def _sum_of_products(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """aᵀ b as the gradient of weights of this dtype: unrounded where the GPU's library can give float32 sums."""
    if a.is_cuda and dtype == torch.float32 != a.dtype:
        return torch.mm(a.T, b, out_dtype=torch.float32)
    return (a.T @ b).to(dtype)


def _compute(x: Tensor, w_fc: Tensor, w_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y (...,C), the activation (rows,H), and in float16 its root, else nothing."""
    rows = triton_kit.rows_of(x)
    hidden = x.new_empty((rows.shape[0], w_fc.shape[0]) if _keeps_hidden(x.dtype) else (0,))
    activation = _launch(rows, w_fc.to(x.dtype), hidden if _keeps_hidden(x.dtype) else None, backward=False)
    return (activation @ w_proj.to(x.dtype).T).view(x.shape), activation, hidden


def _compute_gradients(
    g: Tensor, x: Tensor, w_fc: Tensor, w_proj: Tensor, activation: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    g, rows = triton_kit.rows_of(g), triton_kit.rows_of(x)
    kept = hidden if _keeps_hidden(x.dtype) else activation
    d_hidden = _launch(g, w_proj.to(x.dtype).T, kept, backward=True)
    dx = (d_hidden @ w_fc.to(x.dtype)).view(x.shape)
    return dx, _sum_of_products(d_hidden, rows, w_fc.dtype), _sum_of_products(g, activation, w_proj.dtype)


def _fake(x: Tensor, w_fc: Tensor, w_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[:-1].numel(), w_fc.shape[0]
    return x.new_empty(x.shape), x.new_empty(shape), x.new_empty(shape if _keeps_hidden(x.dtype) else (0,))


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    keep_for_backward(ctx, *output[1:])
    ctx.save_for_backward(*inputs, *output[1:])


def _differentiate(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(g, *ctx.saved_tensors)


_operators = triton_kit.operators(__file__)
_gradients = _operators.define(
    "gradients(Tensor g, Tensor x, Tensor w_fc, Tensor w_proj, Tensor activation, Tensor hidden)"
    " -> (Tensor, Tensor, Tensor)",
    _compute_gradients,
    lambda g, x, w_fc, w_proj, activation, hidden: tuple(
        source.new_empty(source.shape) for source in (x, w_fc, w_proj)
    ),
)
_mlp = _operators.define(
    "mlp(Tensor x, Tensor w_fc, Tensor w_proj) -> (Tensor, Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def mlp(x: Tensor, w_fc: Tensor, w_proj: Tensor) -> Tensor:
    """y = max(x w_fcᵀ, 0)² w_projᵀ, computed in x's dtype with float32 sums.

    x (...,C); w_fc (H,C) and w_proj (C,H) of any float dtype; y (...,C) contiguous, in x's dtype.
    """
    return _mlp(x, w_fc, w_proj)[0]


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's call, in bfloat16 and in float32, with float32 weights."""
    weights = torch.empty(2048, 512), torch.empty(512, 2048)
    return [(torch.empty(256, 512, dtype=dtype), *weights) for dtype in (torch.bfloat16, torch.float32)]
