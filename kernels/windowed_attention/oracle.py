"""Float64 oracle of windowed_attention: causal softmax attention, key j visible to query i when 0 <= i - j <= window.

Scores are q k / sqrt(D). Keys outside the window take no part at all. Works on a block of queries of one head at a time
and the keys that they see.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from autoresearch_common import workload as w

# Scores reach some tens: nearly one-hot softmax, yet their own rounding is not what decides the weights.
LIMITS = dict.fromkeys(w.HUGE, 8.0)
MOST = {"q": 8.0, "k": 8.0}
QUERIES = 128
Index = tuple[int, slice, int]  # a matrix (positions, D) of q, k or v


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """q (B,T,H,D), k and v (B,T,K,D) with H a multiple of K (heads share keys in groups) -> (y (B,T,H,D),)."""
    y = np.empty_like(args["q"])
    with np.errstate(all="ignore"):
        for queries, keys in _blocks(args):
            y[queries] = _weights(args, queries, keys) @ args["v"][keys]
    return (y,)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """With weights P and scores S: dv = P' g, dP = g v', dS = P (dP - sum(P dP)), dq = dS k, dk = dS' q (scaled)."""
    q, k, v, g = args["q"], args["k"], args["v"], cotangents[0]
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    scale = 1.0 / math.sqrt(q.shape[-1])
    with np.errstate(all="ignore"):
        for queries, keys in _blocks(args):
            weights = _weights(args, queries, keys)
            d_scores = g[queries] @ v[keys].T
            d_scores -= np.einsum("ij,ij->i", weights, d_scores)[:, None]
            d_scores *= weights
            d_scores *= scale
            dq[queries] = d_scores @ k[keys]
            dk[keys] += d_scores.T @ q[queries]
            dv[keys] += weights.T @ g[queries]
    return {"q": dq, "k": dk, "v": dv}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Normal q, k, v, as after a norm.

    `adversarial`: every other head has nearly equal scores, so that each visible key counts and a dropped tile shows in
    position-coded values; the rest are heavy-tailed. `nonfinite`: one channel of v is NaN in one head, and where every
    query sees all before it, the last query of another head, or the first key, which all see: the outcome is the same
    whether hidden keys are skipped or multiplied by zero.
    """
    specs = {name: w.argument(workload, name) for name in ("q", "k", "v")}
    window = w.scalars(workload)["window"]
    if kind == "nonfinite":
        values = {name: w.normal(spec, rng) for name, spec in specs.items()}
        batch, length, heads, width = specs["v"]["shape"]
        values["v"][rng.integers(batch), :, rng.integers(heads), rng.integers(width)] = math.nan
        if window >= length - 1 and rng.integers(2):
            values["q"][-1, -1, -1, rng.integers(width)] = math.nan
        elif window >= length - 1:
            values["k"][-1, 0, -1, rng.integers(width)] = math.nan
    elif kind == "adversarial":
        values = {name: w.adversarial(spec, rng, spread=1.0 if name == "v" else 0.1) for name, spec in specs.items()}
        batch, _, heads, _ = specs["q"]["shape"]
        flat = np.arange(batch * heads).reshape(batch, 1, heads, 1) % 2 == 0
        values["q"] = np.where(flat, values["q"] * 0.01, values["q"])
    else:
        values = {name: w.fill(spec, rng, kind, LIMITS) for name, spec in specs.items()}
    return {**values, "window": window}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Visible pairs only: 2 matrix products forward (read q, k, v, write y), 5 backward (read q, k, v, g, write three).

    Backward needs y or the row sums as well; y is counted.
    """
    batch, length, heads, width = w.argument(workload, "q")["shape"]
    reach = min(w.scalars(workload)["window"], length - 1)
    pairs = length * (reach + 1) - reach * (reach + 1) // 2
    products = 2 * batch * heads * pairs * width
    queries, keys = w.nbytes(workload, "q"), w.nbytes(workload, "k", "v")
    return (2 * products, 2 * queries + keys) if direction == "forward" else (5 * products, 4 * queries + 2 * keys)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """Where queries see only themselves, the gradients of q and k are exactly 0 and not asked for: no rounding is small
    beside that."""
    _, _, heads, width = w.argument(workload, "q")["shape"]
    odd = int(rng.integers(20, 60)) * 2 + 1
    lonely = [((1, 1, heads, width), 1), ((1, 129, 1, 40), 0)]
    cases = [((2, 17, 2, width), 8), ((1, 255, heads, width), 255), ((1, 65, 1, 40), 1)]
    cases += [((1, odd, 3, width), odd // 3), ((2, 33, 2, width), 100), ((8, 8, 8, 8), 5)]
    result = [w.variant(workload, q=shape, k=shape, v=shape, window=window) for shape, window in lonely + cases]
    for case in result[: len(lonely)]:
        w.argument(case, "q")["grad"] = w.argument(case, "k")["grad"] = False
    view = (2, 65, 3, width)
    stored, joined = (view, w.transposed(view)), (view, w.sliced(view, factor=3, axis=2))
    result.append(w.variant(workload, q=stored, k=stored, v=stored, window=32))
    result.append(w.variant(workload, q=joined, k=joined, v=joined, window=65))
    # No multiple of eight channels, which some libraries decline: not in row-major order, so that they may.
    narrow = (2, 13, 2, 12)
    turned = (narrow, w.transposed(narrow))
    result.append(w.variant(workload, q=turned, k=turned, v=turned, window=5))
    many, shared = (1, 19, 16, width), (1, 19, 2, width)
    result.append(w.variant(workload, q=many, k=shared, v=shared, window=7))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """Long sequences of several heads with a short window, a longer one with none, a large batch, heads of 64 and of
    128, keys shared by two, three, four, six and a drawn number of heads each; round lengths and windows;
    long sequences with shared keys, heads of 256 and of twice an odd number."""
    some, group = int(rng.integers(1, 100)), int(rng.integers(4, 13))
    cases = [
        ((2, 1024 + some, 2, 24), 2, 100),
        ((1, 2048 + some, 1, 24), 1, 4096),
        ((300 + some, 9, 2, 8), 2, 4),
        ((1, 60 + some, 4, 64), 2, 33),
        ((1, 60 + some, 8, 64), 2, 200),
        ((1, 33, 6, 128), 1, 33),
        ((2, 40, 9, 16), 3, 17),
        ((1, 30, 2 * group, 16), 2, 11),
        ((1, 512, 2, 128), 2, 256),
        ((1, 2048, 1, 16), 1, 1024),
        ((1, 700 + some, 4, 16), 2, int(rng.integers(300, 500))),
        ((2, 280 + some, 4, 32), 2, 300),
        ((1, 20, 2, 256), 1, 9),
        ((2, 24, 3, 2 * int(2 * rng.integers(16, 50) + 1)), 1, 24),
    ]
    result = []
    for shape, heads, window in cases:
        shared = (*shape[:2], heads, shape[3])
        result.append(w.variant(workload, q=shape, k=shared, v=shared, window=window))
    return result


def alike(workload: w.Workload, rng: np.random.Generator) -> w.Workload:
    """A call of the same shapes as a layer beside this one makes it, with another window."""
    window = w.scalars(workload)["window"]
    return w.variant(workload, window=max(1, window // 2) if window > 1 else window + 3)


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` positions, of which a query sees up to `width` thirty-seconds, with heads of up to 16
    times eight channels."""
    shape = (1, count, 2, 8 * ((width - 1) // 2 + 1))
    return w.variant(workload, q=shape, k=shape, v=shape, window=count * width // 32)


def _blocks(args: dict[str, Any]) -> Iterator[tuple[Index, Index]]:
    """Where up to QUERIES positions of one head of q lie, and where in k and v the keys that one of them sees."""
    batches, length, heads, _ = args["q"].shape
    group = heads // args["k"].shape[2]
    for batch, head, start in itertools.product(range(batches), range(heads), range(0, length, QUERIES)):
        end = min(start + QUERIES, length)
        first = max(0, start - args["window"])
        yield (batch, slice(start, end), head), (batch, slice(first, end), head // group)


def _weights(args: dict[str, Any], queries: Index, keys: Index) -> np.ndarray:
    """Softmax weights (queries, keys) of a block, exactly 0 where hidden."""
    q, k = args["q"][queries], args["k"][keys]
    distance = np.arange(queries[1].start, queries[1].stop)[:, None] - np.arange(keys[1].start, keys[1].stop)
    hidden = (distance < 0) | (distance > args["window"])
    weights = q @ k.T
    weights /= math.sqrt(q.shape[-1])
    weights[hidden] = -math.inf
    weights -= np.max(weights, axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= np.sum(weights, axis=-1, keepdims=True)
    weights[hidden] = 0.0  # what is not finite spreads over a row, and hidden keys take no part
    return weights
