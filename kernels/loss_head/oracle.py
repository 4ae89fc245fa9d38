"""Float64 oracle of loss_head: softcap_cross_entropy of the logits x w_head', with the weights as they are stored.

Works on blocks of rows: the logits are never all there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.oracles import load_part

_loss = load_part(__file__, "softcap_cross_entropy")

BLOCK_ELEMENTS = 1 << 21
# Size of adversarial weights, for adversarial rows: the largest logits are about at the cap, most are well below.
ADVERSARIAL = 0.03
# How often a weight is NaN, where not all is finite.
DIVERGED = 0.3
# How often the model is sure of half of the rows, and the logit that their targets have then.
SURE, SURE_LOGIT = 0.5, 16.0


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """x (N,C), w_head (V,C), targets (N,) -> (loss,): 0-dimensional for "mean", (N,) for "none"."""
    losses = np.zeros(len(args["targets"]))
    for rows, part in _blocks(args):
        losses[rows] = _loss.forward(part)[0]
    if args["reduction"] == "none":
        return (losses,)
    with np.errstate(all="ignore"):
        return (np.sum(losses) / np.float64(_counted(args)),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """With the gradient d of the logits: dx = d w_head, dw_head = d' x."""
    x, w_head = args["x"], args["w_head"]
    dx, dw = np.zeros_like(x), np.zeros_like(w_head)
    with np.errstate(all="ignore"):
        share = cotangents[0] if args["reduction"] == "none" else cotangents[0] / np.float64(_counted(args))
        share = np.broadcast_to(share, args["targets"].shape)
        for rows, part in _blocks(args):
            gradient = _loss.backward(part, (share[rows],))["logits"]
            dx[rows] = gradient @ w_head
            dw += gradient.T @ x[rows]
    return {"x": dx, "w_head": dw}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """x as after a norm, weights for logits of about 1, targets as for softcap_cross_entropy.

    `nonfinite` leaves ignored rows finite, as there; at times a weight is NaN, and no row ignored. An infinite x gives
    logits at the caps, whose gradient is 0, and NaN (0 times infinity) in its column of the weights' gradient.
    """
    x_spec, w_spec = w.argument(workload, "x"), w.argument(workload, "w_head")
    (rows, width), classes = x_spec["shape"], w_spec["shape"][0]
    targets = _targets(rows, classes, rng, kind)
    x = w.fill(x_spec, rng, kind, _loss.LIMITS)
    if kind == "nonfinite":
        x[targets == _loss.IGNORED] = 0.5
    draw = w.adversarial(w_spec, rng, ADVERSARIAL) if kind == "adversarial" else w.normal(w_spec, rng)
    weights = draw / np.sqrt(width)
    if kind == "nonfinite" and rng.random() < DIVERGED:
        weights[rng.integers(classes), rng.integers(width)] = np.nan
        targets = np.where(targets == _loss.IGNORED, 0, targets)
    return {"x": x, "w_head": weights, "targets": targets, **w.scalars(workload)}


def padded(args: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same where sequences are padded; at times the model is sure of half of the rows, as late in a training."""
    result: dict[str, Any] = _loss.padded(args, rng)
    if rng.random() < SURE:
        rows = np.nonzero((result["targets"] != _loss.IGNORED) & (rng.random(len(result["targets"])) < 0.5))[0]
        weights = args["w_head"][result["targets"][rows]]
        x = args["x"].copy()
        x[rows] = SURE_LOGIT * weights / np.maximum(np.sum(weights * weights, axis=-1, keepdims=True), 0.1)
        result["x"] = x
    return result


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Forward: a matrix product and what softcap_cross_entropy computes; read x, the weights and the targets. Backward:
    2 products, and the loss's part again; read the same, write dx and dw. The logits need no memory."""
    rows, width = w.argument(workload, "x")["shape"]
    classes = w.argument(workload, "w_head")["shape"][0]
    logits = {**w.argument(workload, "x"), "name": "logits", "shape": [rows, classes]}
    flops, _ = _loss.cost({"args": [logits, w.argument(workload, "targets")]}, direction)
    products = 2 * rows * width * classes
    arrays, targets = w.nbytes(workload, "x", "w_head"), w.nbytes(workload, "targets")
    if direction == "forward":
        return flops + products, arrays + targets
    return flops + 2 * products, 2 * arrays + targets


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    width = min(w.argument(workload, "x")["shape"][1], 128)
    odd = int(rng.integers(50, 300)) * 2 + 1
    cases = [((1, width), 1023, "mean"), ((3, 16), 8191, "none"), ((257, 33), 129, "mean"), ((17, 5), 1, "mean")]
    cases += [((5, 7), 31, "none"), ((odd, width), 33, "none")]
    result = [_resized(workload, (x, w.contiguous(x)), classes, reduction=how) for x, classes, how in cases]
    wide, narrow = (33, width), (9, 31)
    result.append(_resized(workload, (wide, w.sliced(wide)), 257, reduction="none"))
    result.append(_resized(workload, (narrow, [1, 9]), 65, lambda shape: w.transposed(shape, 0, 1), reduction="mean"))
    strided = _resized(workload, (wide, w.contiguous(wide)), 65, w.sliced, softcap=3.5)
    w.argument(strided, "targets")["strides"] = [2]
    return [*result, strided]


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """More than 4,096 and 65,536 rows; more than 8,192, 32,768 and 65,536 classes; wide rows; many rows of many
    classes, classes of half a step; wide rows of many classes."""
    some = int(rng.integers(1, 300))
    cases = [((4096 + some, 8), 17), ((5, 12), 8192 + some), ((3, 8), 32_768 + some), ((2, 4), 65_536 + some)]
    cases += [((7, 1024 + some), 40), ((65_536 + some, 2), 3), ((64 + some // 16, 8), 16_384 + some)]
    cases += [((3, 8), w.odd_multiple(4096, 32_768, rng)), ((4, 264), 4224)]
    return [_resized(workload, (x, w.contiguous(x)), classes) for x, classes in cases]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` rows of that width, and of classes whose number leaves another remainder."""
    return _resized(workload, ((count, width), w.contiguous((count, width))), 33 + 5 * width % 32)


def _resized(
    workload: w.Workload, x: tuple[Any, list[int]], classes: int, strides: Any = w.contiguous, **scalars: Any
) -> w.Workload:
    rows, width = x[0]
    w_head = (classes, width)
    return w.variant(workload, x=x, w_head=(w_head, strides(w_head)), targets=(rows,), **scalars)


def _targets(rows: int, classes: int, rng: np.random.Generator, kind: str) -> np.ndarray:
    """Random ones; for all kinds but `typical` some are ignored, at both ends and in between, and for `edge` the only
    one where there is one row, and at times all; `adversarial` has the last class in every other row, so that a dropped
    tail shows."""
    targets = rng.integers(classes, size=rows)
    if kind == "adversarial":
        targets[::2] = classes - 1
    if kind != "typical" and rows > 2:
        targets[rng.random(rows) < 0.1] = _loss.IGNORED
        targets[[0, 1, -1]] = _loss.IGNORED, classes - 1, _loss.IGNORED
    if kind == "edge" and (rows == 1 or rng.random() < _loss.NONE_COUNTS):
        targets[:] = _loss.IGNORED
    return targets


def _counted(args: dict[str, Any]) -> int:
    return np.count_nonzero(args["targets"] != _loss.IGNORED)


def _blocks(args: dict[str, Any]) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Blocks of rows, each with the call of softcap_cross_entropy that gives its losses one by one."""
    count, classes = len(args["targets"]), len(args["w_head"])
    step = max(1, BLOCK_ELEMENTS // max(1, classes))
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        with np.errstate(all="ignore"):
            logits = args["x"][rows] @ args["w_head"].T
        part = {"logits": logits, "targets": args["targets"][rows], "softcap": args["softcap"], "reduction": "none"}
        yield rows, part
