"""Float64 oracle of softcap_cross_entropy: z = cap tanh(logits / cap), loss = logsumexp(z) - z[target].

Target -1 is ignored: its loss and its gradient are 0, and the mean is over the others. The mean over no target at all
is 0/0 = NaN, as in torch, with zero gradients. Works on blocks of rows, so that temporaries stay in the cache.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from autoresearch_common import workload as w

IGNORED = -1
# Of edge values, the share with no target that counts.
NONE_COUNTS = 0.5
BLOCK_ELEMENTS = 1 << 18
# Far beyond the cap (15): tanh is 1 and its derivative exactly 0.
LIMITS = dict.fromkeys(w.HUGE, 1e4)


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """logits (N,V), targets (N,) -> (loss,): 0-dimensional for "mean", (N,) for "none"."""
    targets = args["targets"]
    losses = np.zeros(len(targets))
    with np.errstate(all="ignore"):
        for rows in _blocks(args["logits"]):
            _, exponentials, picked = _softcapped(args, rows)
            counted = targets[rows] != IGNORED
            losses[rows] = np.where(counted, np.log(exponentials.sum(axis=-1)) - picked, 0.0)
        if args["reduction"] == "none":
            return (losses,)
        return (np.sum(losses) / np.float64(np.count_nonzero(targets != IGNORED)),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """dlogits = (softmax(z) - onehot) (1 - tanh^2) times the row's share of the cotangent."""
    targets = args["targets"]
    counted = targets != IGNORED
    result = np.zeros_like(args["logits"])
    with np.errstate(all="ignore"):
        share = cotangents[0] if args["reduction"] == "none" else cotangents[0] / np.count_nonzero(counted)
        share = np.broadcast_to(share, targets.shape)
        for rows in _blocks(args["logits"]):
            tanh, gradient, _ = _softcapped(args, rows)
            gradient /= gradient.sum(axis=-1, keepdims=True)
            at = np.nonzero(counted[rows])[0]
            gradient[at, targets[rows][at]] -= 1.0
            gradient *= 1.0 - tanh * tanh
            gradient *= share[rows, None]
            result[rows][at] = gradient[at]
    return {"logits": result}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Logits of a few units and random targets; other kinds have ignored targets at both ends and in between,
    and `edge` no target that counts where there is one row, and at times where there are more.

    `adversarial` puts the target in the last class in every other row, so that a dropped tail shows. `nonfinite` leaves
    ignored rows finite: there implementations may differ, while elsewhere infinite logits are +-cap and NaN is NaN;
    the target's own logit is infinite in some rows, and in some the whole row.
    """
    spec = w.argument(workload, "logits")
    rows, classes = spec["shape"]
    logits = w.fill(spec, rng, kind, LIMITS)
    targets = rng.integers(classes, size=rows)
    if kind == "adversarial":
        targets[::2] = classes - 1
    elif kind in ("typical", "nonfinite"):
        logits *= 2.0
    if kind != "typical" and rows > 2:
        targets[[0, -1]] = IGNORED
        targets[rng.random(rows) < 0.1] = IGNORED
        targets[1] = classes - 1
    if kind == "edge" and (rows == 1 or rng.random() < NONE_COUNTS):
        targets[:] = IGNORED
    if kind == "nonfinite":
        logits[targets == IGNORED] = 0.5
        _infinite_at_targets(logits, targets, rng)
    return {"logits": logits, "targets": targets, **w.scalars(workload)}


def padded(args: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same where sequences are padded: many targets in a row are ignored, at the end, in between, or most of them
    at the end of each of several sequences."""
    targets = args["targets"].copy()
    rows = len(targets)
    first, end = np.sort(rng.integers(1, rows + 1, size=2))
    ends = _ends(rows, rng)
    ignored = slice(first, rows), slice(first, end), ends, ends
    targets[ignored[rng.integers(len(ignored))]] = IGNORED
    return {**args, "targets": targets}


def _ends(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Which rows are of the second half, or more, of two to four sequences of one length."""
    length = max(2, rows // int(rng.integers(2, 5)))
    mask: np.ndarray = np.arange(rows) % length >= rng.integers(1, length // 2 + 1)
    return mask


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: read logits and targets; tanh and exp (counted as 10 each), two sums per element. Backward: again, and
    write dlogits."""
    elements, passes = w.size(w.argument(workload, "logits")), w.nbytes(workload, "logits")
    targets = w.nbytes(workload, "targets")
    return (24 * elements, passes + targets) if direction == "forward" else (28 * elements, 2 * passes + targets)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    classes = w.argument(workload, "logits")["shape"][-1]
    odd = int(rng.integers(50, 300)) * 2 + 1
    cases = [((1, classes), "mean"), ((3, 8191), "none"), ((257, 129), "mean"), ((17, 1), "mean"), ((5, 7), "none")]
    cases.append(((odd, 33), "none"))
    result = [w.variant(workload, logits=shape, targets=shape[:1], reduction=how) for shape, how in cases]
    wide, narrow = (7, classes), (9, 31)
    views = [(wide, w.sliced(wide), "none"), (wide, w.sliced(wide), "mean"), (narrow, [1, 9], "mean")]
    result += [w.variant(workload, logits=(s, strides), targets=s[:1], reduction=how) for s, strides, how in views]
    result.append(w.variant(workload, softcap=3.5, logits=(4, 65), targets=([4], [2])))
    return result


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 65,536 rows, more than 4,096; more than 8,192, 32,768 and 65,536 classes; some rows of many
    classes, and of half a step, small and large ones."""
    some = int(rng.integers(1, 300))
    shapes = [(65_536 + some, 3), (4096 + some, 17), (5, 8192 + some), (3, 32_768 + some), (2, 65_536 + some)]
    classes = w.odd_multiple(4096, 32_768, rng)
    shapes += [(24 + some // 16, 8192 + some), (9 + some // 16, w.half_steps(rng)), (3, classes)]
    return [w.variant(workload, logits=shape, targets=shape[:1]) for shape in shapes]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows, with classes whose number leaves the remainder of `width`."""
    return w.variant(workload, logits=(count, 32 + width), targets=(count,))


def longest_sum(workload: w.Workload) -> int:
    """Terms of the longest sum in an element of a result: a row's exponentials, or the losses of all rows."""
    return int(max(w.argument(workload, "logits")["shape"]))


def _infinite_at_targets(logits: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> None:
    """In turn: the target's own logit -inf, the whole row -inf, the target's +inf, the whole row +inf; in up to half of
    the rows that count, at least one."""
    counted = rng.permutation(np.nonzero(targets != IGNORED)[0])
    for number, row in enumerate(counted[: max(1, min(12, len(counted) // 2))]):
        where = targets[row] if number % 2 == 0 else slice(None)
        logits[row, where] = -np.inf if number % 4 < 2 else np.inf


def _blocks(logits: np.ndarray) -> Iterator[slice]:
    count, classes = logits.shape
    step = max(1, BLOCK_ELEMENTS // max(1, classes))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _softcapped(args: dict[str, Any], rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """tanh(logits / cap), exp(z) and z[target] of a block of rows.

    |z| <= cap, so exp needs no shift by the row's maximum as long as the cap is far below 700.
    """
    tanh = np.tanh(args["logits"][rows] / args["softcap"])
    capped = args["softcap"] * tanh
    picked = capped[np.arange(len(capped)), np.maximum(args["targets"][rows], 0)]
    return tanh, np.exp(capped, out=capped), picked
