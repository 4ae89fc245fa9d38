"""Float64 oracle of relu_squared: y = max(x, 0)^2."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w

# The square itself must stay in the range of the type.
LIMITS = {**w.HUGE, "float16": 200.0}


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x of any shape -> (y of the same shape,). NaN stays NaN, -inf becomes 0."""
    with np.errstate(all="ignore"):
        return (np.square(np.maximum(args["x"], 0.0)),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """dx = 2 max(x, 0) g."""
    with np.errstate(all="ignore"):
        return {"x": 2.0 * np.maximum(args["x"], 0.0) * cotangents[0]}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    spec = w.argument(workload, "x")
    x = w.fill(spec, rng, kind, LIMITS)
    if spec["dtype"] == "float16":
        x = np.clip(x, -200.0, 200.0) if kind == "adversarial" else x
    return {"x": x}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: read x, write y; a maximum and a product. Backward: read x and g, write dx; one product more."""
    elements, passes = w.size(w.argument(workload, "x")), w.nbytes(workload, "x")
    return (2 * elements, 2 * passes) if direction == "forward" else (3 * elements, 3 * passes)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    width = [8, *w.argument(workload, "x")["shape"]][-1]
    odd = int(rng.integers(100, 3000)) * 2 + 1
    shapes = [(1,), (7,), (257, 129), (3, 17, width), (odd,), (2, 3, 2, 5, 7), (), (0, width)]
    strided = [
        ((3, 5, width), w.sliced((3, 5, width))),
        ((9, 33), (1, 9)),
        ((3, 5, 31), w.transposed((3, 5, 31), 0, 1)),
    ]
    return [w.variant(workload, x=shape) for shape in shapes] + [w.variant(workload, x=pair) for pair in strided]


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 rows and elements, long rows, long sequences, a large batch; round
    numbers of them."""
    some = int(rng.integers(1, 300))
    shapes = [(65_536 + some, 2), (140_000 + some,), (3, 8192 + some), (2, 2048 + some, 24), (1024 + some, 2, 24)]
    shapes.append((8, 2048, 32))
    return [w.variant(workload, x=shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of an odd length, so that the number of elements leaves every remainder, too."""
    return w.variant(workload, x=(count, 2 * (width // 2) + 1))
