"""Float64 oracle of residual_mix: y = resid_lambda x + x0_lambda x0, the input of each layer."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x and x0 (B,T,C), both lambdas 0-dimensional -> (y (B,T,C),)."""
    with np.errstate(all="ignore"):
        return (args["resid_lambda"] * args["x"] + args["x0_lambda"] * args["x0"],)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    (g,) = cotangents
    with np.errstate(all="ignore"):
        return {
            "x": args["resid_lambda"] * g,
            "x0": args["x0_lambda"] * g,
            "resid_lambda": np.sum(g * args["x"]),
            "x0_lambda": np.sum(g * args["x0"]),
        }


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Lambdas near their start (1 and 0.1); `edge` has one of them 0, `adversarial` lets the two terms cancel."""
    values: dict[str, Any] = {name: w.fill(w.argument(workload, name), rng, kind) for name in ("x", "x0")}
    resid, x0 = 1.0 + 0.1 * rng.standard_normal(), 0.1 + 0.05 * rng.standard_normal()
    if kind == "edge":
        resid, x0 = (0.0, x0) if rng.random() < 0.5 else (resid, 0.0)
    elif kind == "adversarial":
        resid, x0 = 0.75, -0.75
        values["x0"] = values["x"] * (1.0 + 0.05 * rng.standard_normal(values["x"].shape))
    return {**values, "resid_lambda": np.array(resid), "x0_lambda": np.array(x0)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: read x and x0, write y. Backward: read g, x and x0, write dx and dx0; two sums over everything."""
    elements, passes = w.size(w.argument(workload, "x")), w.nbytes(workload, "x")
    return (3 * elements, 3 * passes) if direction == "forward" else (6 * elements, 5 * passes)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    width = w.argument(workload, "x")["shape"][-1]
    odd = int(rng.integers(20, 60)) * 2 + 1
    shapes = [(1, 1, width), (2, 17, 7), (3, 255, 1), (1, odd, width), (6, 6, 6), (2, 0, width)]
    result = [w.variant(workload, x=shape, x0=shape) for shape in shapes]
    view = (3, 17, width)
    result.append(w.variant(workload, x=(view, w.transposed(view, 0, 1)), x0=(view, w.sliced(view))))
    narrow = (2, 5, 33)
    result.append(w.variant(workload, x=(narrow, w.transposed(narrow)), x0=narrow))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 rows, long rows and rows of thousands, long sequences, a large batch; round
    numbers of them, more than 524,288 elements."""
    some, thousands = int(rng.integers(1, 300)), 1024 * int(rng.integers(1, 8))
    shapes = [(1, 65_536 + some, 2), (1, 3, 8192 + some), (2, 2048 + some, 24), (1024 + some, 2, 24), (1, 5, thousands)]
    shapes += [(2, 2048, 132), (4, 512, 128)]
    return [w.variant(workload, x=shape, x0=shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of that width."""
    return w.variant(workload, x=(1, count, width), x0=(1, count, width))
