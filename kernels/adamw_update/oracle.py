"""Float64 oracle of adamw_update: decoupled weight decay, then Adam (Loshchilov and Hutter, arXiv 1711.05101).

p <- p (1 - lr wd); m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
p <- p - lr (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps), with step counted from 1.
"""

from typing import Any

import numpy as np

from autoresearch_common import workload as w

# The second moment holds squares, so float16 gradients have to stay far below its maximum.
LIMITS = {**w.HUGE, "float16": 200.0}


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """p, grad, exp_avg, exp_avg_sq of one shape -> (p, exp_avg, exp_avg_sq)."""
    g, beta1, beta2 = args["grad"], float(args["beta1"]), float(args["beta2"])
    step, lr = int(args["step"]), float(args["lr"])
    with np.errstate(all="ignore"):
        m = beta1 * args["exp_avg"] + (1.0 - beta1) * g
        v = beta2 * args["exp_avg_sq"] + (1.0 - beta2) * g * g
        denominator = np.sqrt(v / (1.0 - beta2**step)) + float(args["eps"])
        p = args["p"] * (1.0 - lr * float(args["weight_decay"]))
        return p - lr / (1.0 - beta1**step) * m / denominator, m, v


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Nothing is differentiated through an optimizer step."""
    return {}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Moments that fit the gradients' size; `edge` starts from zero moments.

    With `nonfinite` a parameter and its moments are NaN in a few places of their own, as after a step that went wrong.
    A first moment is never infinite: whether what is interpolated from there is NaN is left open.
    """
    spec = w.argument(workload, "grad")
    grad = w.fill(spec, rng, kind, LIMITS)
    if kind == "adversarial" and spec["dtype"] == "float16":
        grad = np.clip(grad, -200.0, 200.0)
    if kind in ("typical", "nonfinite"):
        grad *= 1e-3
    usual = 1e-3 if kind in ("typical", "nonfinite") else 1.0
    first = np.zeros(spec["shape"]) if kind == "edge" else w.normal(spec, rng, 0.3 * usual)
    second = np.zeros(spec["shape"]) if kind == "edge" else np.square(w.normal(spec, rng, usual))
    parameter = w.normal(w.argument(workload, "p"), rng, 0.05)
    if kind == "nonfinite":
        for array in (parameter, first, second):
            flat = array.reshape(-1)
            flat[rng.integers(flat.size, size=min(2, flat.size // 4))] = np.nan
    return {"p": parameter, "grad": grad, "exp_avg": first, "exp_avg_sq": second, **w.scalars(workload)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Read four arrays, write three; about 14 operations per element."""
    if direction != "forward":
        return 0, 0
    states = w.nbytes(workload, "p", "exp_avg", "exp_avg_sq")
    return 14 * w.size(w.argument(workload, "p")), 2 * states + w.nbytes(workload, "grad")


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    names = ("p", "grad", "exp_avg", "exp_avg_sq")
    width = [1, *w.argument(workload, "p")["shape"]][-1]
    odd = int(rng.integers(50, 500)) * 2 + 1
    cases = [((), 4), ((1,), 1), ((7,), 1), ((257, 129), 3), ((3, width), 1000), ((odd,), 2)]
    result = [w.variant(workload, step=step, **dict.fromkeys(names, shape)) for shape, step in cases]
    view = ((9, 33), w.transposed((9, 33), 0, 1))
    result.append(w.variant(workload, step=5, **dict.fromkeys(names, view)))
    result.append(w.variant(workload, step=5, p=(9, 33), grad=view, exp_avg=(9, 33), exp_avg_sq=(9, 33)))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 numbers in one row, in many rows and in few, and three axes."""
    some = int(rng.integers(1, 300))
    shapes = [(65_536 + some,), (8192 + some, 3), (3, 8192 + some), (40, 9, 20 + some)]
    return [w.variant(workload, p=each, grad=each, exp_avg=each, exp_avg_sq=each) for each in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of an odd length, so that the number of elements leaves every remainder, too."""
    return w.variant(workload, **dict.fromkeys(("p", "grad", "exp_avg", "exp_avg_sq"), (count, 2 * (width // 2) + 1)))
