"""Float64 oracle of mlp: y = max(x w_fc', 0)^2 w_proj', with the weights as they are stored."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.oracles import load_part

_relu_squared = load_part(__file__, "relu_squared")

# The square in between must stay in the range of the type, and so must sums of products of two such in the gradients.
LIMITS = {**dict.fromkeys(w.HUGE, 1e6), "float16": 30.0}
# Sizes of adversarial values (cubed normals of rms 4, up to 8 times that in some rows).
SPREAD = {**dict.fromkeys(w.HUGE, 1.0), "float16": 0.05}


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x (..., C), w_fc (H,C), w_proj (C,H) -> (y (..., C),)."""
    with np.errstate(all="ignore"):
        hidden = args["x"] @ args["w_fc"].T
        return (_relu_squared.forward({"x": hidden})[0] @ args["w_proj"].T,)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """With hidden h, a = max(h, 0)^2: dw_proj = g' a, dh = (g w_proj) 2 max(h, 0), dw_fc = dh' x, dx = dh w_fc."""
    x, w_fc, w_proj = args["x"], args["w_fc"], args["w_proj"]
    rows, g = x.reshape(-1, x.shape[-1]), cotangents[0].reshape(-1, w_proj.shape[0])
    with np.errstate(all="ignore"):
        hidden = rows @ w_fc.T
        (activation,) = _relu_squared.forward({"x": hidden})
        d_hidden = _relu_squared.backward({"x": hidden}, (g @ w_proj,))["x"]
        return {"x": (d_hidden @ w_fc).reshape(x.shape), "w_fc": d_hidden.T @ rows, "w_proj": g.T @ activation}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """x as after a norm, weights that keep its size. Only x is ever extreme or not finite: what is not finite in a row
    stays in that row of y and dx, and reaches the weights' gradients."""
    spec = w.argument(workload, "x")
    weights = {}
    for name in ("w_fc", "w_proj"):
        weight = w.argument(workload, name)
        draw = w.adversarial(weight, rng, 0.1) if kind == "adversarial" else w.normal(weight, rng)
        weights[name] = draw / np.sqrt(weight["shape"][1])
    if kind == "adversarial":
        return {"x": w.adversarial(spec, rng, SPREAD[spec["dtype"]]), **weights}
    return {"x": w.fill(spec, rng, kind, LIMITS), **weights}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: 2 matrix products; read x and the weights, write y. Backward: 4 products; read x, g and the weights,
    write their gradients. The hidden values need no memory: they may stay on the chip or be computed again, and that
    second time is not counted, for they may be kept instead."""
    hidden, width = w.argument(workload, "w_fc")["shape"]
    rows = w.size(w.argument(workload, "x")) // max(1, width)
    stream, weights = w.nbytes(workload, "x"), w.nbytes(workload, "w_fc", "w_proj")
    products = 2 * rows * width * hidden
    if direction == "forward":
        return 2 * products + 2 * rows * hidden, 2 * stream + weights
    return 4 * products + 3 * rows * hidden, 3 * stream + 2 * weights


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    hidden, width = w.argument(workload, "w_fc")["shape"]
    hidden, width = min(hidden, 512), min(width, 128)
    odd = int(rng.integers(20, 60)) * 2 + 1
    shapes: list[tuple[tuple[int, ...], int]] = [((1, 1, width), hidden), ((2, 17, 7), 29), ((1, odd, 33), 65)]
    shapes += [((3, 5, 130), 257), ((2, 9, 16), 64), ((9, 16), 40), ((2, 2, 3, 12), 33), ((6, 6, 6), 6)]
    shapes += [((2, 0, width), 33)]
    result = [_resized(workload, (shape, w.contiguous(shape)), inner) for shape, inner in shapes]
    view, narrow = (3, 17, width), (2, 5, 33)
    result.append(_resized(workload, (view, w.transposed(view, 0, 1)), hidden))
    result.append(_resized(workload, (narrow, w.sliced(narrow)), 40))
    result.append(_resized(workload, (narrow, w.transposed(narrow)), 40, lambda shape: w.transposed(shape, 0, 1)))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """Long sequences, a large batch, more than 8,192 rows, 16,384 of them, more than 4,096 hidden channels, wide
    rows, several rows of many hidden channels, wide rows of many."""
    some = int(rng.integers(1, 300))
    shapes = [
        ((2, 2048 + some, 8), 24),
        ((500 + some, 2, 16), 40),
        ((4, 2048 + some, 8), 24),
        ((8, 2048, 8), 32),
        ((1, 5, 12), 4096 + some),
        ((1, 7, 1024 + some), 24),
        ((2, 9 + some // 16, 16), 2048 + some),
        ((1, 5, 512), 1024),
    ]
    return [_resized(workload, (shape, w.contiguous(shape)), inner) for shape, inner in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of that width, and of hidden channels whose number leaves another remainder."""
    return _resized(workload, ((1, count, width), w.contiguous((1, count, width))), 33 + 5 * width % 32)


def _resized(workload: w.Workload, x: tuple[Any, list[int]], hidden: int, strides: Any = w.contiguous) -> w.Workload:
    w_fc, w_proj = (hidden, x[0][-1]), (x[0][-1], hidden)
    return w.variant(workload, x=x, w_fc=(w_fc, strides(w_fc)), w_proj=(w_proj, strides(w_proj)))
