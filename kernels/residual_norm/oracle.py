"""Float64 oracle of residual_norm: x = resid_lambda x + x0_lambda x0, and rms_norm of that."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.oracles import load_part

_mix, _rms_norm = load_part(__file__, "residual_mix"), load_part(__file__, "rms_norm")


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x and x0 (B,T,C), both lambdas 0-dimensional -> (x, normed), both (B,T,C)."""
    (x,) = _mix.forward(args)
    return x, *_rms_norm.forward({"x": x, "eps": args["eps"]})


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """The mixed stream's cotangent is its own and what comes back through the norm."""
    stream, normed = cotangents
    (x,) = _mix.forward(args)
    with np.errstate(all="ignore"):
        stream = stream + _rms_norm.backward({"x": x, "eps": args["eps"]}, (normed,))["x"]
    return _mix.backward(args, (stream,))


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """As for residual_mix; where its terms cancel, the norm makes the remainder large again."""
    return {**_mix.inputs(workload, rng, kind), **w.scalars(workload)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """What residual_mix and rms_norm compute. Forward: read x and x0, write both results. Backward: read x, x0 and two
    cotangents, write dx and dx0."""
    spec = w.argument(workload, "x")
    flops = _mix.cost(workload, direction)[0] + _rms_norm.cost({"args": [spec]}, direction)[0]
    return flops, (4 if direction == "forward" else 6) * w.nbytes(workload, "x")


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    width = w.argument(workload, "x")["shape"][-1]
    odd = int(rng.integers(20, 60)) * 2 + 1
    shapes = [(1, 1, width), (2, 17, 7), (3, 63, 3), (1, odd, width), (1, 3, 2047), (6, 6, 6), (2, 0, width)]
    result = [w.variant(workload, x=shape, x0=shape) for shape in shapes]
    view, narrow = (3, 17, width), (2, 5, 33)
    result.append(w.variant(workload, x=(view, w.transposed(view, 0, 1)), x0=(view, w.sliced(view))))
    result.append(w.variant(workload, x=(narrow, w.transposed(narrow)), x0=narrow))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 rows, long rows and rows of thousands, long sequences, a large batch; round
    numbers of them, more than 524,288 elements; rows of half a step, and of 384."""
    some, thousands = int(rng.integers(1, 300)), 1024 * int(rng.integers(1, 8))
    shapes = [(1, 65_536 + some, 2), (1, 3, 8192 + some), (2, 2048 + some, 24), (1024 + some, 2, 24), (1, 5, thousands)]
    shapes += [(2, 2048, 132), (4, 512, 128), (2, 9 + some // 16, w.half_steps(rng)), (3, 9, 384)]
    return [w.variant(workload, x=shape, x0=shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of that width."""
    return w.variant(workload, x=(1, count, width), x0=(1, count, width))


def longest_sum(workload: w.Workload) -> int:
    """Terms of the longest sum in an element of a result: a row's squares."""
    return int(w.argument(workload, "x")["shape"][-1])
