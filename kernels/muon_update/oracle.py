"""Float64 oracle of muon_update: Nesterov momentum, Polar Express, NorMuon scaling, cautious weight decay, stacked.

buf <- mu buf + (1 - mu) g; g <- (1 - mu) g + mu buf; x = newton_schulz(g);
s = mean of x^2 over the shorter axis; v <- beta2 v + (1 - beta2) s; x <- x / sqrt(max(v, 1e-10)), rescaled so that each
matrix keeps the Frobenius norm it had; p <- p - lr x - lr wd p where x p >= 0, p - lr x elsewhere.
"""

from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.oracles import load_part

_newton_schulz = load_part(__file__, "newton_schulz")

FLOOR = 1e-10
# Of values that are not finite, the share that has them in the momentum.
MOMENTUM_IS_NAN = 0.5


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """p, grad, momentum (N,R,C), second_momentum (N,R,1) if R >= C else (N,1,C) -> (p, momentum, second_momentum)."""
    p, grad, mu = args["p"], args["grad"], float(args["mu"])
    lr, decay, beta2 = float(args["lr"]), float(args["weight_decay"]), float(args["beta2"])
    axis = _reduced_axis(p.shape)
    with np.errstate(all="ignore"):
        momentum = mu * args["momentum"] + (1.0 - mu) * grad
        nesterov = (1.0 - mu) * grad + mu * momentum
        x = np.stack([_newton_schulz.polar_express(matrix, int(args["steps"])) for matrix in nesterov])
        square = np.mean(x * x, axis=axis, keepdims=True)
        second = beta2 * args["second_momentum"] + (1.0 - beta2) * square
        step_size = 1.0 / np.sqrt(np.maximum(second, FLOOR))
        before = np.sqrt(np.sum(square, axis=(-2, -1), keepdims=True) * p.shape[axis])
        after = np.sqrt(np.sum(square * p.shape[axis] * step_size**2, axis=(-2, -1), keepdims=True))
        x = x * step_size * (before / np.maximum(after, FLOOR))
        return p - lr * x - lr * decay * p * (x * p >= 0.0), momentum, second


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Nothing is differentiated through an optimizer step."""
    return {}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Gradients as for newton_schulz; momentum of their size, second momentum of an orthogonal matrix's.

    `edge` starts from zero states; `adversarial` has weights so large that their decay is not lost in the error of the
    iteration. `nonfinite` has gradients that are not, or as after a step that went wrong a momentum that is NaN: the
    whole matrix then becomes NaN, the others do not.
    """
    spec = w.argument(workload, "p")
    count, rows, columns = spec["shape"]
    steps = {"name": "steps", "kind": "scalar", "value": w.scalars(workload)["steps"]}
    matrices = {"args": [{**w.argument(workload, "grad"), "name": "g"}, steps]}
    grad = _newton_schulz.inputs(matrices, rng, kind)["g"]
    second_shape = w.argument(workload, "second_momentum")["shape"]
    momentum = w.normal(spec, rng, 5e-4)
    second = rng.uniform(0.5, 1.5, size=second_shape) / max(rows, columns)
    if kind == "edge":
        momentum, second = np.zeros_like(momentum), np.zeros_like(second)
    if kind == "nonfinite" and rng.random() < MOMENTUM_IS_NAN:
        wrong = ~np.isfinite(grad)
        momentum[wrong], grad[wrong] = np.nan, 0.0
    states = {"momentum": momentum, "second_momentum": second}
    parameter = w.normal(spec, rng, 2.0 if kind == "adversarial" else 0.05)
    return {"p": parameter, "grad": grad, **states, **w.scalars(workload)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """newton_schulz and about 20 operations per element; read p, grad and momentum, write p and momentum."""
    if direction != "forward":
        return 0, 0
    spec = w.argument(workload, "p")
    steps = {"name": "steps", "kind": "scalar", "value": w.scalars(workload)["steps"]}
    flops, _ = _newton_schulz.cost({"args": [{**spec, "name": "g"}, steps]})
    states = w.nbytes(workload, "p", "momentum", "second_momentum")
    return flops + 20 * w.size(spec), 2 * states + w.nbytes(workload, "grad")


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    _, rows, columns = w.argument(workload, "p")["shape"]
    odd = int(rng.integers(10, 40)) * 2 + 1
    shapes = [(1, min(rows, 256), min(columns, 256)), (2, 33, 17), (3, 17, 33), (6, 1, 7), (5, 4, 32), (1, odd, odd)]
    shapes += [(4, 3, 32), (5, 20, 2)]
    result = [_resized(workload, shape) for shape in shapes]
    view = ((2, 48, 20), w.transposed((2, 48, 20)))
    result.append(w.variant(workload, p=view[0], grad=view, momentum=view[0], second_momentum=(2, 48, 1)))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 64 matrices, long and tall ones, and square ones of more than 256 rows. Very long ones have singular
    values that are all alike, which iterations in bfloat16 carry all the same way: so none is longer for its width.
    An odd stack of larger ones, and one of more than a million numbers."""
    some = int(rng.integers(1, 60))
    shapes = [(64 + some, 6, 8), (1, 12, 512 + some), (1, 2048 + some, 24), (1, 256 + some, 256 + some)]
    shapes += [(1, 24, 2048 + some), (1, 512 + some, 12)]
    shapes += [(5 + 2 * (some % 2), 64 + some, 96 + some), (8, 384, 384)]
    return [_resized(workload, shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call with matrices of 32 more rows and 32 more columns (see newton_schulz)."""
    return _resized(workload, (2, 32 + count, 32 + width))


def _resized(workload: w.Workload, shape: tuple[int, ...]) -> w.Workload:
    reduced = list(shape)
    reduced[_reduced_axis(shape)] = 1
    return w.variant(workload, p=shape, grad=shape, momentum=shape, second_momentum=reduced)


def _reduced_axis(shape: tuple[int, ...]) -> int:
    """The shorter axis of the matrices, so that the state lies along the longer one; the last where they are equal."""
    return -1 if shape[-2] >= shape[-1] else -2
