"""Causal sliding-window attention in Triton (FlashAttention-2, Dao, arXiv 2307.08691): scores never leave the chip.

Blocks that no query of a tile sees are skipped, and only blocks that the window's edges cut are masked. Backward needs
q, k, v, y and two numbers per row, works the scores out again, and adds in a fixed order: no atomics, the same bits
each time. The two are not merged into a logarithm: rounding one as large as the scores would leave weights that do not
add up to 1, and where a row has one large weight its gradient is what is left of a difference. Products take their
operands as stored (float32 without tf32) and add in float32.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autoresearch_cuda import triton_kit
from autoresearch_cuda.operators import keep_for_backward

MOST_WIDTH = 128
LOG2_E = 1.4426950408889634
# For dk and dv each thread needs three numbers of every query. Triton 3.9 passes them on through shared memory; earlier
# ones let each thread load them for itself, two at a time and from the cache, which takes as many instructions.
_EARLIER = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9)
LEAST_VECTOR_SHARE = {"_backward_kv": 0.3} if _EARLIER else {}


def _configs(*choices: tuple[int, int, int, int]) -> list[triton.Config]:
    """Of (queries per tile, keys per tile, warps, stages)."""
    return [
        triton.Config({"QUERIES": queries, "KEYS": keys}, num_warps=warps, num_stages=stages)
        for queries, keys, warps, stages in choices
    ]


def _fitting(configs: list[triton.Config], arguments: dict[str, Any], **_: Any) -> list[triton.Config]:
    """Tiles of float32 take twice the room, and its products no tensor cores: for them the last, small ones."""
    return configs[-1:] if arguments["q"].dtype == torch.float32 else configs[:-1]


def _tiles(general: list[triton.Config], hopper: list[triton.Config], small: list[triton.Config]) -> Any:
    """With heads of 128 these are the largest that fit into registers: general ones into those of sm_80, sm_100 and
    gfx942 alike, Hopper's, whose fast products take blocks of 64 rows and read them from shared memory, into its."""
    configs = [*triton_kit.on(general, never=["sm_90"]), *triton_kit.on(hopper, only=["sm_90"]), *small]
    return triton_kit.tuned(configs, ["length", "window", "WIDTH"], prune=_fitting)


_forward_tiles = _tiles(_configs((128, 32, 8, 3)), _configs((128, 64, 8, 3), (128, 64, 8, 2)), _configs((32, 32, 8, 1)))
_dq_tiles = _tiles(_configs((64, 32, 4, 2)), _configs((128, 64, 8, 2), (64, 64, 8, 2)), _configs((16, 16, 8, 1)))
_dkv_tiles = _tiles(
    _configs((32, 32, 4, 2), (16, 64, 4, 2)), _configs((32, 64, 8, 2), (32, 32, 4, 2)), _configs((16, 16, 4, 1))
)


@triton.jit
def _at(base, first, stride, column, ROWS: tl.constexpr):
    """Where rows `first` to `first` + ROWS of one head lie; offsets within the tile are small enough for 32 bits."""
    return base + tl.cast(first, tl.int64) * stride + tl.arange(0, ROWS)[:, None] * stride + column[None, :]


@triton.jit
def _inside(first, length, column, ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    inside = (first + tl.arange(0, ROWS) < length)[:, None]
    if WIDTH != COLUMNS:
        inside = inside & (column[None, :] < WIDTH)
    return inside


@triton.jit
def _load(
    base, first, stride, length, column,
    CUT: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile (ROWS, COLUMNS) of one head, 0 beyond its width and, with CUT, beyond the sequence."""
    at = _at(base, first, stride, column, ROWS)
    if CUT or WIDTH != COLUMNS:
        tile = tl.load(at, _inside(first, length, column, ROWS, WIDTH, COLUMNS), other=0.0)
    else:
        tile = tl.load(at)
    return tile


@triton.jit
def _store(base, first, stride, length, column, values, ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    inside = _inside(first, length, column, ROWS, WIDTH, COLUMNS)
    tl.store(_at(base, first, stride, column, ROWS), values.to(base.dtype.element_ty), inside)


@triton.jit
def _key_range(first, window, length, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """For the queries from `first` on: where the visible keys start, from where and to where whole blocks of them are
    visible to all these queries, and where they end. All but the end are multiples of KEYS."""
    start = tl.maximum(first - window, 0) // KEYS * KEYS
    end = tl.minimum(first + QUERIES, length)
    whole = tl.minimum(tl.cdiv(tl.maximum(first + QUERIES - 1 - window, 0), KEYS), tl.cdiv(end, KEYS)) * KEYS
    whole_end = tl.maximum((first + 1) // KEYS * KEYS, whole)
    return start, whole, whole_end, end


@triton.jit
def _masked(products, query, key, window, MASKED: tl.constexpr):
    """q kᵀ, −inf where the key is hidden from the query; both positions in the layout of the products."""
    if MASKED:
        distance = query - key
        products = tl.where((distance >= 0) & (distance <= window), products, float("-inf"))
    return products


@triton.jit
def _power(products, top, scale):
    """2^((products − top) · scale), in this order exactly 1 for the largest product of a row, also where the compiler
    fuses multiplications with additions: of a difference one large weight then leaves nothing, as it should."""
    return tl.exp2((products - top) * scale)


@triton.jit
def _attend(
    y, top, total, q, k, v, start, end, query, column, length, window, k_stride, v_stride, scale,
    MASKED: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Take in the keys from `start` to `end`: online softmax in powers of 2."""
    for first in range(start, end, KEYS):
        key = first + tl.arange(0, KEYS)
        keys = _load(k, first, k_stride, length, column, MASKED, KEYS, WIDTH, COLUMNS)
        products = tl.dot(q, tl.trans(keys), input_precision="ieee")
        products = _masked(products, query[:, None], key[None, :], window, MASKED)
        values = _load(v, first, v_stride, length, column, MASKED, KEYS, WIDTH, COLUMNS)
        higher = tl.maximum(top, tl.max(products, axis=1))
        # A row that has seen no visible key yet must not subtract infinities.
        origin = tl.where(higher == float("-inf"), 0.0, higher) if MASKED else higher
        weights = _power(products, origin[:, None], scale)
        shrink = _power(top, origin, scale)
        total = total * shrink + tl.sum(weights, axis=1)
        y = tl.dot(weights.to(values.dtype), values, y * shrink[:, None], input_precision="ieee")
        top = higher
    return y, top, total


@_forward_tiles
@triton.jit
def _forward(
    q, k, v, y, tops, reciprocals, length, window, heads, scale,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """y (B,T,H,D), and of each row (B,H,T) the largest product and the reciprocal of its sum of powers."""
    # The last tiles see the most keys: first come the longest.
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERIES
    pair = tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    k += batch * k_batch + head // GROUP * k_head
    v += batch * v_batch + head // GROUP * v_head
    query, column = first + tl.arange(0, QUERIES), tl.arange(0, COLUMNS)
    queries = _load(q + batch * q_batch + head * q_head, first, q_row, length, column, True, QUERIES, WIDTH, COLUMNS)
    start, whole, whole_end, end = _key_range(first, window, length, QUERIES, KEYS)
    result = tl.zeros((QUERIES, COLUMNS), tl.float32)
    top = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    result, top, total = _attend(
        result, top, total, queries, k, v, start, whole, query, column, length, window, k_row, v_row, scale,
        True, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    result, top, total = _attend(
        result, top, total, queries, k, v, whole, whole_end, query, column, length, window, k_row, v_row, scale,
        False, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    result, top, total = _attend(
        result, top, total, queries, k, v, whole_end, end, query, column, length, window, k_row, v_row, scale,
        True, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    row = heads * WIDTH
    base = y + batch * length * row + head * WIDTH
    _store(base, first, row, length, column, result / total[:, None], QUERIES, WIDTH, COLUMNS)
    statistics = pair.to(tl.int64) * length + query
    tl.store(tops + statistics, top, query < length)
    tl.store(reciprocals + statistics, 1.0 / total, query < length)


@triton.jit
def _weights_and_gradient(
    q, dy, k, v, top, reciprocal, first, query, column, length, window, k_stride, v_stride, scale,
    MASKED: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(keys from `first` on, softmax weights of the queries on them, gradient of these weights)."""
    key = first + tl.arange(0, KEYS)
    keys = _load(k, first, k_stride, length, column, MASKED, KEYS, WIDTH, COLUMNS)
    values = _load(v, first, v_stride, length, column, MASKED, KEYS, WIDTH, COLUMNS)
    products = tl.dot(q, tl.trans(keys), input_precision="ieee")
    products = _masked(products, query[:, None], key[None, :], window, MASKED)
    weights = _power(products, top[:, None], scale) * reciprocal[:, None]
    return keys, weights, tl.dot(dy, tl.trans(values), input_precision="ieee")


@triton.jit
def _add_dq(
    dq, q, dy, k, v, top, reciprocal, delta, start, end, query, column, length, window, k_stride, v_stride, scale,
    LONELY: tl.constexpr, MASKED: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    for first in range(start, end, KEYS):
        keys, weights, d_weights = _weights_and_gradient(
            q, dy, k, v, top, reciprocal, first, query, column, length, window, k_stride, v_stride, scale,
            MASKED, KEYS, WIDTH, COLUMNS,
        )  # fmt: skip
        d_scores = weights * (d_weights - (d_weights if LONELY else delta[:, None]))
        dq = tl.dot(d_scores.to(keys.dtype), keys, dq, input_precision="ieee")
    return dq


@_dq_tiles
@triton.jit
def _backward_q(
    dy, q, k, v, y, tops, reciprocals, deltas, dq, length, window, heads, scale, root,
    g_batch, g_row, g_head, q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, EXACT: tl.constexpr,
    LONELY: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """dq, and deltas (B,H,T) for the other kernel: what all weights' gradients of a row have in common, Σ y dy.

    EXACT: added up from the very products that it is taken from, in a pass of its own. Where a row has one large
    weight, little is left of that difference, and y, rounded, or added up in another order, is not good enough for
    float32 and float16. LONELY: every query sees one key, whose weight is 1 whatever its score, so that nothing is left
    of it at all. scale = log2(e) · root, root = 1 / √D."""
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERIES
    pair = tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    k += batch * k_batch + head // GROUP * k_head
    v += batch * v_batch + head // GROUP * v_head
    query, column = first + tl.arange(0, QUERIES), tl.arange(0, COLUMNS)
    queries = _load(q + batch * q_batch + head * q_head, first, q_row, length, column, True, QUERIES, WIDTH, COLUMNS)
    gradient = _load(dy + batch * g_batch + head * g_head, first, g_row, length, column, True, QUERIES, WIDTH, COLUMNS)
    row = heads * WIDTH
    own = batch * length * row + head * WIDTH
    statistics = pair.to(tl.int64) * length + query
    top = tl.load(tops + statistics, query < length, other=0.0)
    reciprocal = tl.load(reciprocals + statistics, query < length, other=0.0)
    start, whole, whole_end, end = _key_range(first, window, length, QUERIES, KEYS)
    if EXACT:
        delta = tl.zeros((QUERIES,), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        for at in range(start, end, KEYS):
            _, weights, d_weights = _weights_and_gradient(
                queries, gradient, k, v, top, reciprocal, at, query, column, length, window, k_row, v_row, scale,
                True, KEYS, WIDTH, COLUMNS,
            )  # fmt: skip
            delta += tl.sum(weights * d_weights, axis=1)
            total += tl.sum(weights, axis=1)
        delta /= total
    else:
        outputs = _load(y + own, first, row, length, column, True, QUERIES, WIDTH, COLUMNS)
        delta = tl.sum(outputs.to(tl.float32) * gradient.to(tl.float32), axis=1)
    tl.store(deltas + statistics, delta, query < length)
    result = tl.zeros((QUERIES, COLUMNS), tl.float32)
    result = _add_dq(
        result, queries, gradient, k, v, top, reciprocal, delta, start, whole, query, column, length, window, k_row,
        v_row, scale, LONELY, True, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    result = _add_dq(
        result, queries, gradient, k, v, top, reciprocal, delta, whole, whole_end, query, column, length, window, k_row,
        v_row, scale, LONELY, False, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    result = _add_dq(
        result, queries, gradient, k, v, top, reciprocal, delta, whole_end, end, query, column, length, window, k_row,
        v_row, scale, LONELY, True, KEYS, WIDTH, COLUMNS,
    )  # fmt: skip
    _store(dq + own, first, row, length, column, result * root, QUERIES, WIDTH, COLUMNS)


@triton.jit
def _add_dkv(
    dk, dv, k, v, q, dy, tops, reciprocals, deltas, start, end, key, column, length, window, q_stride, g_stride, scale,
    LONELY: tl.constexpr, MASKED: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Keys in the rows, queries in the columns, so that nothing but loaded tiles is transposed."""
    for first in range(start, end, QUERIES):
        query = first + tl.arange(0, QUERIES)
        queries = _load(q, first, q_stride, length, column, MASKED, QUERIES, WIDTH, COLUMNS)
        gradient = _load(dy, first, g_stride, length, column, MASKED, QUERIES, WIDTH, COLUMNS)
        # Queries beyond the sequence, which only masked blocks have, get no weight at all.
        inside = (query < length) | (not MASKED)
        top = tl.load(tops + query, inside, other=0.0)
        reciprocal = tl.load(reciprocals + query, inside, other=0.0)
        delta = tl.load(deltas + query, inside, other=0.0)
        products = tl.dot(k, tl.trans(queries), input_precision="ieee")
        products = _masked(products, query[None, :], key[:, None], window, MASKED)
        weights = _power(products, top[None, :], scale) * reciprocal[None, :]
        dv = tl.dot(weights.to(gradient.dtype), gradient, dv, input_precision="ieee")
        d_weights = tl.dot(v, tl.trans(gradient), input_precision="ieee")
        d_scores = weights * (d_weights - (d_weights if LONELY else delta[None, :]))
        dk = tl.dot(d_scores.to(queries.dtype), queries, dk, input_precision="ieee")
    return dk, dv


@_dkv_tiles
@triton.jit
def _backward_kv(
    dy, q, k, v, tops, reciprocals, deltas, dk, dv, length, window, heads, scale, root,
    g_batch, g_row, g_head, q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, LONELY: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """dk and dv of one tile of keys, from all query heads that share them. heads: those of k and v."""
    first = tl.program_id(0) * KEYS
    pair = tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    key, column = first + tl.arange(0, KEYS), tl.arange(0, COLUMNS)
    keys = _load(k + batch * k_batch + head * k_head, first, k_row, length, column, True, KEYS, WIDTH, COLUMNS)
    values = _load(v + batch * v_batch + head * v_head, first, v_row, length, column, True, KEYS, WIDTH, COLUMNS)
    # As in _key_range, with the roles exchanged: all these keys are visible to the blocks from `whole` to `whole_end`.
    start = first // QUERIES * QUERIES
    end = tl.minimum(first + KEYS + window, length)
    whole = tl.minimum(tl.cdiv(first + KEYS - 1, QUERIES), tl.cdiv(end, QUERIES)) * QUERIES
    whole_end = tl.maximum(tl.minimum((first + window + 1) // QUERIES, end // QUERIES) * QUERIES, whole)
    d_keys = tl.zeros((KEYS, COLUMNS), tl.float32)
    d_values = tl.zeros((KEYS, COLUMNS), tl.float32)
    for member in range(GROUP):
        own = head * GROUP + member
        queries = q + batch * q_batch + own * q_head
        gradient = dy + batch * g_batch + own * g_head
        statistics = (batch * heads * GROUP + own) * length
        top, reciprocal, delta = tops + statistics, reciprocals + statistics, deltas + statistics
        d_keys, d_values = _add_dkv(
            d_keys, d_values, keys, values, queries, gradient, top, reciprocal, delta, start, whole, key, column,
            length, window, q_row, g_row, scale, LONELY, True, QUERIES, WIDTH, COLUMNS,
        )  # fmt: skip
        d_keys, d_values = _add_dkv(
            d_keys, d_values, keys, values, queries, gradient, top, reciprocal, delta, whole, whole_end, key, column,
            length, window, q_row, g_row, scale, LONELY, False, QUERIES, WIDTH, COLUMNS,
        )  # fmt: skip
        d_keys, d_values = _add_dkv(
            d_keys, d_values, keys, values, queries, gradient, top, reciprocal, delta, whole_end, end, key, column,
            length, window, q_row, g_row, scale, LONELY, True, QUERIES, WIDTH, COLUMNS,
        )  # fmt: skip
    row = heads * WIDTH
    base = batch * length * row + head * WIDTH
    _store(dk + base, first, row, length, column, d_keys * root, KEYS, WIDTH, COLUMNS)
    _store(dv + base, first, row, length, column, d_values, KEYS, WIDTH, COLUMNS)


def _dense_heads(x: Tensor) -> Tensor:
    """x with a dense last axis; batch, time and head may lie anywhere."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]


def _sizes(q: Tensor, k: Tensor) -> dict[str, int]:
    return {
        "GROUP": q.shape[2] // k.shape[2],
        "WIDTH": q.shape[3],
        "COLUMNS": max(16, triton.next_power_of_2(q.shape[3])),
    }


def _compute(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """y (B,T,H,D) and the numbers per row (2,B,H,T) that backward needs, see `_forward`."""
    batch, length, heads, width = q.shape
    if width > MOST_WIDTH:
        raise NotImplementedError(f"heads of width {width}; at most {MOST_WIDTH}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must have one dtype, not {q.dtype}, {k.dtype}, {v.dtype}")
    q, k, v = map(_dense_heads, (q, k, v))
    y = q.new_empty(q.shape)
    statistics = torch.empty((2, batch, heads, length), dtype=torch.float32, device=q.device)
    if q.numel():
        scale, window = LOG2_E / math.sqrt(width), min(window, length)
        _forward[lambda meta: (triton.cdiv(length, meta["QUERIES"]), batch * heads)](
            q, k, v, y, *statistics, length, window, heads, scale, *_strides(q, k, v), **_sizes(q, k)
        )
    return y, statistics


def _compute_gradients(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, statistics: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    g, q, k, v = map(_dense_heads, (g, q, k, v))
    batch, length, heads, width = q.shape
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    if q.numel():
        deltas = torch.empty_like(statistics[0])
        root, window = 1 / math.sqrt(width), min(window, length)
        lonely = min(window, length - 1) == 0
        strides, sizes = _strides(g, q, k, v), _sizes(q, k)
        _backward_q[lambda meta: (triton.cdiv(length, meta["QUERIES"]), batch * heads)](
            g, q, k, v, y, *statistics, deltas, dq, length, window, heads, root * LOG2_E, root, *strides, **sizes,
            EXACT=q.dtype != torch.bfloat16, LONELY=lonely,
        )  # fmt: skip
        _backward_kv[lambda meta: (triton.cdiv(length, meta["KEYS"]), batch * k.shape[2])](
            g, q, k, v, *statistics, deltas, dk, dv, length, window, k.shape[2], root * LOG2_E, root, *strides, **sizes,
            LONELY=lonely,
        )  # fmt: skip
    return dq, dk, dv


def _fake(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    batch, length, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((2, batch, heads, length), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.window = inputs
    keep_for_backward(ctx, output[1])
    ctx.save_for_backward(q, k, v, *output)


def _differentiate(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(g, *ctx.saved_tensors, ctx.window), None


_operators = triton_kit.operators(__file__)
_gradients = _operators.define(
    "gradients(Tensor g, Tensor q, Tensor k, Tensor v, Tensor y, Tensor statistics, int window)"
    " -> (Tensor, Tensor, Tensor)",
    _compute_gradients,
    lambda g, q, k, v, y, statistics, window: tuple(x.new_empty(x.shape) for x in (q, k, v)),
)
_attention = _operators.define(
    "attention(Tensor q, Tensor k, Tensor v, int window) -> (Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B,T,H,D), k and v (B,T,K,D) with H a multiple of K, one dtype, any strides; y contiguous, in q's dtype. Raises
    NotImplementedError for heads wider than 128.
    """
    return _attention(q, k, v, window)[0]


def compile_cases() -> list[tuple[Any, ...]]:
    """The trainer's calls: heads of 128 and 64, whole and half windows; and float32, which has tiles of its own."""
    cases = [(128, 2048, torch.bfloat16), (128, 1024, torch.bfloat16), (64, 1024, torch.bfloat16)]
    cases.append((128, 1024, torch.float32))
    return [(*(torch.empty(1, 2048, 2, width, dtype=dtype) for _ in "qkv"), window) for width, window, dtype in cases]
