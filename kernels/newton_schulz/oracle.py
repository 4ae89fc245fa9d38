"""Float64 oracle of newton_schulz: the Polar Express iteration towards the nearest semi-orthogonal matrix.

X = g / (1.02 |g|_F + 1e-6), then `steps` times X <- a X + (b A + c A^2) X with A = X X' (on the shorter side) and one
triple (a, b, c) per step, the last one repeated (Amsel et al., "The Polar Express", arXiv 2505.16932; 2 % safety).
"""

from typing import Any

import numpy as np

from autoresearch_common import workload as w

COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """g (N,R,C) -> (x (N,R,C),), each matrix normalised by itself."""
    with np.errstate(all="ignore"):
        return (np.stack([polar_express(matrix, args["steps"]) for matrix in args["g"]]),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """The optimizer does not differentiate through its update."""
    return {}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Matrices of gradient size.

    `edge` goes in turn through zeros, a constant (rank one), a single element, far too large, far too small, equal
    singular values, and an unused row. `adversarial` has singular values over four decades and rows scaled by position.
    `nonfinite` poisons about every eighth matrix, which then is NaN throughout; the others must stay as they are.
    """
    count, rows, columns = w.argument(workload, "g")["shape"]
    g = rng.standard_normal((count, rows, columns)) * 1e-3
    if kind == "edge":
        start = int(rng.integers(7))
        for index in range(count):
            g[index] = _degenerate((start + index) % 7, g[index], rng)
    elif kind == "adversarial":
        for index in range(count):
            left, values, right = np.linalg.svd(g[index], full_matrices=False)
            spectrum = values[0] * 10.0 ** np.linspace(0.0, -4.0, len(values))
            g[index] = (left * spectrum) @ right * (0.25 + (np.arange(rows) * 5 % 7))[:, None]
    elif kind == "nonfinite":
        for number, index in enumerate(rng.choice(count, size=max(1, count // 8), replace=False)):
            g[index, rng.integers(rows), rng.integers(columns)] = (np.nan, np.inf, -np.inf)[number % 3]
    return {"g": g, "steps": w.scalars(workload)["steps"]}


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Per step A and A^2, symmetric and so half a matrix product each, and one full product.

    g is read once and bfloat16 written once: the matrices fit in a cache.
    """
    if direction != "forward":
        return 0, 0
    spec = w.argument(workload, "g")
    count, rows, columns = spec["shape"]
    short, long = min(rows, columns), max(rows, columns)
    per_step = short * (short + 1) * (long + short) + 2 * short * short * long
    return count * w.scalars(workload)["steps"] * per_step, w.nbytes(workload, "g") + 2 * w.size(spec)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    _, rows, columns = w.argument(workload, "g")["shape"]
    rows, columns = min(rows, 256), min(columns, 256)
    odd = int(rng.integers(10, 50)) * 2 + 1
    cases = [((1, rows, columns), 5), ((2, columns, rows), 5), ((3, 17, 33), 5), ((2, 33, 17), 4), ((6, 1, 7), 5)]
    cases += [((1, odd, 64), 3), ((9, 4, 32), 6), ((4, 3, 32), 5), ((5, 20, 2), 5)]
    result = [w.variant(workload, g=shape, steps=steps) for shape, steps in cases]
    view = (2, 48, 20)
    result.append(w.variant(workload, g=(view, w.transposed(view))))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 64 matrices, long and tall ones, and ones of more than 256 and 384 rows. Very long ones have singular
    values that are all alike, which iterations in bfloat16 carry all the same way: so none is longer for its width.
    A stack of larger ones, and one of a round number of rows."""
    some = int(rng.integers(1, 60))
    shapes = [(64 + some, 6, 8), (1, 12, 512 + some), (1, 2048 + some, 24), (1, 256 + some, 256 + some)]
    shapes += [(1, 24, 2048 + some), (1, 512 + some, 12), (1, 384 + some, 512)]
    shapes += [(5 + some % 4, 64 + some, 96 + some), (1, 384, 384)]
    return [w.variant(workload, g=shape) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call with matrices of 32 more rows and 32 more columns: where there are two or three singular values,
    iterations in bfloat16 may carry all of them the same way."""
    return w.variant(workload, g=(2, 32 + count, 32 + width))


def polar_express(g: np.ndarray, steps: int) -> np.ndarray:
    """One matrix (R,C); the products are on the shorter side, which changes the cost and not the result."""
    x = g / (np.sqrt(np.sum(g * g)) * 1.02 + 1e-6)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _degenerate(pattern: int, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = matrix.shape
    if pattern == 0:
        return np.zeros_like(matrix)
    if pattern == 1:
        return np.ones_like(matrix)
    if pattern == 2:
        single = np.zeros_like(matrix)
        single[rng.integers(rows), rng.integers(columns)] = -7.0
        return single
    if pattern == 3:
        return matrix * 1e9
    if pattern == 4:
        return matrix * 1e-9
    if pattern == 5:
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        return left @ right
    unused = matrix.copy()
    unused[rng.integers(rows)] = 0.0
    return unused
