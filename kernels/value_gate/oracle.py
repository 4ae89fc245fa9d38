"""Float64 oracle of value_gate: y = v + 2 sigmoid(gate)[..., None] ve, the value-embedding mix of attention."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """v and ve (B,T,H,D), gate (B,T,H) before the sigmoid -> (y (B,T,H,D),)."""
    with np.errstate(all="ignore"):
        return (args["v"] + 2.0 * _sigmoid(args["gate"])[..., None] * args["ve"],)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """dv = g, dve = 2 s g, dgate = 2 s (1 - s) sum_D(g ve)."""
    (g,) = cotangents
    with np.errstate(all="ignore"):
        s = _sigmoid(args["gate"])
        return {
            "v": g.copy(),
            "ve": 2.0 * s[..., None] * g,
            "gate": 2.0 * s * (1.0 - s) * np.sum(g * args["ve"], axis=-1),
        }


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """`edge` opens and shuts gates completely (+-30 and beyond) and has gates at exactly 0."""
    gate = w.normal(w.argument(workload, "gate"), rng)
    if kind == "edge":
        gate = rng.choice([0.0, 1.0, -1.0, 30.0, -30.0, 200.0, -200.0], size=gate.shape)
    elif kind == "adversarial":
        gate *= 4.0
    elif kind == "nonfinite":
        gate = w.poison(gate, rng)
    return {
        "v": w.fill(w.argument(workload, "v"), rng, kind),
        "ve": w.fill(w.argument(workload, "ve"), rng, "typical" if kind == "nonfinite" else kind),
        "gate": gate,
    }


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: read v, ve, gate, write y. Backward: read g, ve, gate, write dve and dgate (dv is g itself)."""
    elements = w.size(w.argument(workload, "ve"))
    gates = w.size(w.argument(workload, "gate"))
    if direction == "forward":
        return 2 * elements + 4 * gates, 2 * w.nbytes(workload, "v") + w.nbytes(workload, "ve", "gate")
    return 3 * elements + 8 * gates, w.nbytes(workload, "v") + 2 * w.nbytes(workload, "ve", "gate")


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    _, _, heads, width = w.argument(workload, "v")["shape"]
    odd = int(rng.integers(20, 60)) * 2 + 1
    shapes = [(1, 1, heads, width), (2, 17, 3, 7), (1, 255, heads, 1), (2, odd, 2, width)]
    shapes += [(5, 5, 5, 5), (0, 5, heads, width)]
    result = [w.variant(workload, v=shape, ve=shape, gate=shape[:3]) for shape in shapes]
    view = (2, 17, 3, width)
    result.append(w.variant(workload, v=(view, w.transposed(view)), ve=(view, w.sliced(view)), gate=view[:3]))
    narrow = (3, 5, 2, 9)
    gate = (narrow[:3], w.transposed(narrow[:3], 0, 2))
    result.append(w.variant(workload, v=(narrow, w.transposed(narrow, 2, 3)), ve=narrow, gate=gate))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 heads in all, a long sequence, a large batch, heads of 64, of 256 and between
    them, many heads, many wide ones; round numbers of them."""
    some, width = int(rng.integers(1, 300)), int(rng.integers(65, 256))
    shapes = [(2, 4096 + some, 9, 2), (1, 2048 + some, 2, 8), (1024 + some, 2, 2, 8), (2, 9, 12, 64), (1, 17, 2, 256)]
    shapes += [(2, 9, 2, width), (2, 64, 4, 128), (1, 2048, 4, 16), (1, 11, int(rng.integers(17, 65)), 16)]
    shapes.append((1, 3, 20, 96))
    return [w.variant(workload, v=shape, ve=shape, gate=shape[:3]) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` positions, with heads of that width."""
    shape = (1, count, 3, width)
    return w.variant(workload, v=shape, ve=shape, gate=shape[:3])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z); the overflow of e^-z for very negative z gives the right limit 0."""
    return 1.0 / (1.0 + np.exp(-z))
