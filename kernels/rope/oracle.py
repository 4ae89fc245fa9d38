"""Float64 oracle of rope: half-split pairs (i, i + D/2) rotated by -theta.

y1 = x1 cos + x2 sin, y2 = -x1 sin + x2 cos, the direction that checkpoints of this family of models expect.
"""

from typing import Any

import numpy as np

from autoresearch_common import workload as w

BASE = 10000.0


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x (B,T,H,D), cos and sin (1,T,1,D/2) -> (y (B,T,H,D),)."""
    return (_rotate(args["x"], args["cos"], args["sin"]),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """The transpose of a rotation is the rotation back; cos and sin are constants of the model."""
    return {"x": _rotate(cotangents[0], args["cos"], -args["sin"])}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Angles as the model has them; `adversarial`: unrelated ones, so that an exchanged position or channel shows.

    At position 0 sin is 0, so an infinite x1 there gives y2 = -inf * 0 = NaN.
    """
    spec = w.argument(workload, "cos")
    _, length, _, half = spec["shape"]
    angles = np.arange(length)[:, None] * BASE ** (-np.arange(half) / half)
    if kind == "adversarial":
        angles = rng.uniform(0.0, 2.0 * np.pi, size=(length, half))
    return {
        "x": w.fill(w.argument(workload, "x"), rng, kind),
        "cos": np.cos(angles)[None, :, None, :],
        "sin": np.sin(angles)[None, :, None, :],
    }


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Read x (or g), cos and sin, write y (or dx); two products and a sum per element, both ways."""
    return 3 * w.size(w.argument(workload, "x")), 2 * w.nbytes(workload, "x") + w.nbytes(workload, "cos", "sin")


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    _, _, heads, width = w.argument(workload, "x")["shape"]
    long = int(rng.integers(20, 100)) * 2 + 1
    shapes = [(1, 1, heads, width), (3, 17, 2, width), (1, 255, heads, width), (2, long, 3, 6), (2, 5, 1, 2)]
    shapes += [(6, 6, 6, 6), (3, 3, 3, 6), (0, 5, heads, width)]
    result = [_resized(workload, shape, w.contiguous(shape)) for shape in shapes]
    view = (2, 17, 3, width)
    result.append(_resized(workload, view, w.transposed(view)))
    result.append(_resized(workload, view, w.sliced(view, axis=2, factor=3)))
    result.append(_resized(workload, (2, 7, 3, 10), w.transposed((2, 7, 3, 10), 2, 3)))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """A long sequence, a large batch, heads of 64, of 256 and between them, many heads, more than 65,536 in all; round
    numbers of them; several longer sequences; many wide heads."""
    some, width = int(rng.integers(1, 300)), 2 * int(rng.integers(33, 128))
    shapes = [(1, 2048 + some, 2, 16), (1024 + some, 2, 2, 8), (2, 9, 12, 64), (1, 17, 2, 256), (2, 4096 + some, 9, 2)]
    shapes += [(2, 9, 2, width), (1, 11, int(rng.integers(13, 65)), 16), (2, 64, 4, 128), (1, 2048, 4, 16)]
    shapes += [(3, 64 + some, 2, 32), (1, 3, 20, 96)]
    return [_resized(workload, shape, w.contiguous(shape)) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` positions, with heads of twice that width."""
    return _resized(workload, (1, count, 3, 2 * width), w.contiguous((1, count, 3, 2 * width)))


def _resized(workload: w.Workload, shape: tuple[int, ...], strides: list[int]) -> w.Workload:
    angles = (1, shape[1], 1, shape[3] // 2)
    return w.variant(workload, x=(shape, strides), cos=angles, sin=angles)


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    first, second = np.split(x, 2, axis=-1)
    with np.errstate(all="ignore"):
        return np.concatenate([first * cos + second * sin, -first * sin + second * cos], axis=-1)
