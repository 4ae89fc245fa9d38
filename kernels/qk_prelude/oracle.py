"""Float64 oracle of qk_prelude: rope, then rms_norm over each head, of queries and keys."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.oracles import load_part

_rope, _rms_norm = load_part(__file__, "rope"), load_part(__file__, "rms_norm")


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """q (B,T,H,D), k (B,T,K,D), cos and sin (1,T,1,D/2) -> both, rotated and normalised over D."""
    return tuple(_rms_norm.forward({"x": _rotated(args, name), "eps": args["eps"]})[0] for name in ("q", "k"))


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Through the norm, then back through the rotation, for each of the two by itself."""
    result = {}
    for name, cotangent in zip(("q", "k"), cotangents, strict=True):
        rotated = _rms_norm.backward({"x": _rotated(args, name), "eps": args["eps"]}, (cotangent,))["x"]
        result[name] = _rope.backward(_rope_args(args, name), (rotated,))["x"]
    return result


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Queries and keys as for rope, with one set of angles. A value that is not finite makes its row NaN, and zero
    where an infinite one leaves the others of the row finite."""
    first = _rope.inputs(_rope_workload(workload, "q"), rng, kind)
    k = w.fill(w.argument(workload, "k"), rng, kind)
    return {"q": first["x"], "k": k, "cos": first["cos"], "sin": first["sin"], **w.scalars(workload)}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """What rope and rms_norm compute. Forward: read q, k, cos and sin, write q and k. Backward: read those and the
    cotangents, write both gradients."""
    flops = 0
    for name in ("q", "k"):
        flops += _rope.cost(_rope_workload(workload, name), direction)[0]
        flops += _rms_norm.cost({"args": [{**w.argument(workload, name), "name": "x"}]}, direction)[0]
    heads, angles = w.nbytes(workload, "q", "k"), w.nbytes(workload, "cos", "sin")
    return flops, (2 if direction == "forward" else 3) * heads + angles


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """The last three have views with strides; some have fewer heads in k than in q."""
    _, _, heads, width = w.argument(workload, "q")["shape"]
    odd = int(rng.integers(20, 100)) * 2 + 1
    pairs = [
        ((1, 1, heads, width), (1, 1, heads, width)),
        ((3, 17, 4, width), (3, 17, 2, width)),
        ((1, 255, heads, width), (1, 255, heads, width)),
        ((2, odd, 3, 6), (2, odd, 1, 6)),
        ((2, 5, 1, 34), (2, 5, 1, 34)),
        ((6, 6, 6, 6), (6, 6, 6, 6)),
        ((0, 5, heads, width), (0, 5, heads, width)),
    ]
    result = [_resized(workload, (q, w.contiguous(q)), (k, w.contiguous(k))) for q, k in pairs]
    view, fewer, narrow = (2, 17, 4, width), (2, 17, 2, width), (2, 7, 3, 10)
    result.append(_resized(workload, (view, w.transposed(view)), (fewer, w.sliced(fewer, axis=2, factor=3))))
    result.append(_resized(workload, (view, w.sliced(view)), (view, w.transposed(view, 2, 3))))
    result.append(_resized(workload, (narrow, w.transposed(narrow, 2, 3)), (narrow, w.transposed(narrow))))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """Long sequences, a large batch, heads of 64, of 128, of 256 and between them, keys shared by twelve and by two
    heads each; round numbers of them all; long sequences with shared keys; many wide heads."""
    some, width = int(rng.integers(1, 300)), 2 * int(rng.integers(33, 128))
    pairs = [
        ((2, 2048 + some, 2, 8), (2, 2048 + some, 2, 8)),
        ((2, 9, 2, width), (2, 9, 2, width)),
        ((1024 + some, 2, 4, 8), (1024 + some, 2, 2, 8)),
        ((2, 9, 12, 64), (2, 9, 1, 64)),
        ((1, 17, 2, 256), (1, 17, 2, 256)),
        ((2, 64, 4, 128), (2, 64, 4, 128)),
        ((1, 2048, 4, 16), (1, 2048, 4, 16)),
        ((2, 256 + some, 6, 16), (2, 256 + some, 3, 16)),
        ((1, 3, 20, 96), (1, 3, 20, 96)),
    ]
    return [_resized(workload, (q, w.contiguous(q)), (k, w.contiguous(k))) for q, k in pairs]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` positions, with heads of twice that width."""
    shape = (1, count, 3, 2 * width)
    return _resized(workload, (shape, w.contiguous(shape)), (shape, w.contiguous(shape)))


def longest_sum(workload: w.Workload) -> int:
    """Terms of the longest sum in an element of a result: a head's squares."""
    return int(w.argument(workload, "q")["shape"][-1])


def _resized(workload: w.Workload, q: tuple[Any, list[int]], k: tuple[Any, list[int]]) -> w.Workload:
    angles = (1, q[0][1], 1, q[0][3] // 2)
    return w.variant(workload, q=q, k=k, cos=angles, sin=angles)


def _rope_args(args: dict[str, Any], name: str) -> dict[str, Any]:
    return {"x": args[name], "cos": args["cos"], "sin": args["sin"]}


def _rotated(args: dict[str, Any], name: str) -> np.ndarray:
    return _rope.forward(_rope_args(args, name))[0]


def _rope_workload(workload: w.Workload, name: str) -> w.Workload:
    angles = [w.argument(workload, angle) for angle in ("cos", "sin")]
    return {"args": [{**w.argument(workload, name), "name": "x"}, *angles]}
