"""Float64 oracle of rms_norm: y = x / sqrt(mean(x^2) + eps) over the last axis, without a weight."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x (..., C) -> (y (..., C),)."""
    x = args["x"]
    with np.errstate(all="ignore"):
        return (x * _reciprocal_rms(x, args["eps"]),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """With r = 1/rms and y = x r: dx = r (g - y mean(g y))."""
    x, (g,) = args["x"], cotangents
    with np.errstate(all="ignore"):
        r = _reciprocal_rms(x, args["eps"])
        y = x * r
        return {"x": r * (g - y * np.mean(g * y, axis=-1, keepdims=True))}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """An infinite element makes its row 0, itself NaN; a NaN makes its whole row NaN."""
    return {"x": w.fill(w.argument(workload, "x"), rng, kind), **w.scalars(workload)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: read x, write y; square, add, scale per element. Backward: read x and g, write dx; two sums per row."""
    elements, passes = w.size(w.argument(workload, "x")), w.nbytes(workload, "x")
    return (3 * elements, 2 * passes) if direction == "forward" else (8 * elements, 3 * passes)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    width = w.argument(workload, "x")["shape"][-1]
    odd = int(rng.integers(2, 300)) * 2 + 1
    shapes = [(1, width), (3, 1), (257, 7), (2, 17, 129), (3, 5, odd), (1, 1, 3, 8191), (6, 6, 6), (width,), (0, width)]
    strided = [
        ((2, 17, 3, width), w.transposed((2, 17, 3, width))),
        ((3, 5, width), w.sliced((3, 5, width))),
        ((9, 33), (1, 9)),
    ]
    return [w.variant(workload, x=shape) for shape in shapes] + [w.variant(workload, x=pair) for pair in strided]


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 rows, more than 8,192 columns, rows of thousands, long sequences, a large batch; round
    numbers of them; several long rows, rows of half a step, and of 384."""
    some, thousands = int(rng.integers(1, 300)), 1024 * int(rng.integers(1, 8))
    shapes = [(65_536 + some, 3), (3, 8192 + some), (2, 2048 + some, 24), (1024 + some, 2, 24), (2, 9, 16, 64)]
    shapes += [(5, thousands), (2, 2048, 64), (4, 1024, 128)]
    shapes += [(3, 8 + some // 16, 1024 + some), (2, 9 + some // 16, w.half_steps(rng))]
    shapes.append((3, 9, 384))
    return [w.variant(workload, x=shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of that width."""
    return w.variant(workload, x=(count, width))


def longest_sum(workload: w.Workload) -> int:
    """Terms of the longest sum in an element of a result: a row's squares."""
    return int(w.argument(workload, "x")["shape"][-1])


def _reciprocal_rms(x: np.ndarray, eps: float) -> np.ndarray:
    """1 / sqrt(mean(x^2) + eps), (..., 1)."""
    return 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
