"""The space from which unusual calls are drawn: its axes with their values, the points that no kernel may decline, and
the call that a point stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.workload import Scalar, Workload
from autoresearch_lab.catalog import Argument, Contract
from autoresearch_lab.verify.cases import Case, with_dtype
from autoresearch_lab.verify.covering import Deck
from autoresearch_trainer.jobs.calls import Mode

# The level of the axis "size" whose calls are far larger than the others, or have other proportions.
FAR = -1
# How an array lies in memory, the usual first: row-major; with two axes exchanged; rows with gaps behind them;
# beginning inside a larger block, where no vector is aligned; every second element; one element of the first axis seen
# in all its places. That only the first argument is, unless it is written to: weights or keys that are all alike make
# sums that cancel, by which no honest kernel can be measured.
EXPANDED = "expanded"
LAYOUTS = ("contiguous", "transposed", "gaps", "offset", "strided", EXPANDED)
# How some of these may be: whether it is about the last axes (gaps behind rows, and not behind some of them; the last
# two exchanged, and not any two), and whether the array begins inside a block as well.
OF_LAST, INSIDE = (False, True), (False, True)
WAYS = {
    "transposed": list(product(OF_LAST, INSIDE)),
    "gaps": list(product((False, *OF_LAST), INSIDE)),
    "strided": list(product((True,), INSIDE)),
}
MOST_OFFSET = 32  # elements from the start of a block
# Cotangents come as the operator behind the kernel hands them on: like arguments, or one element seen in many places.
COTANGENTS = (*LAYOUTS, "expanded first", "expanded last")
WITH_GRADIENTS: tuple[Mode, ...] = ("plain", "not a leaf", "interleaved", "checkpointed")
# Of these, the ones that a framework has whose arrays are values.
OF_VALUES: tuple[Mode, ...] = ("plain", "interleaved")
WITHOUT: tuple[Mode, ...] = ("nothing wanted", "no_grad", "inference_mode")
# By so many powers of ten at most a scalar is below its smallest value, where it falls to zero.
FALL = 4.0
# Whole numbers that reach over so much are counts that go on: some are drawn so far beyond the largest.
FAR_FROM, FAR_BEYOND = 100, ((2, 32), (32, 1000))


def axes_of(
    contract: Contract,
    sizes: Sequence[int],
    other_dtypes: Sequence[str],
    grads: tuple[str, ...],
    rng: np.random.Generator,
    contexts: bool,
) -> dict[str, Sequence[Any]]:
    modes = [*(WITH_GRADIENTS if grads else ()), *WITHOUT] if contexts else [*(OF_VALUES if grads else ()), WITHOUT[0]]
    cotangents = COTANGENTS if contexts else ("contiguous", "transposed", "expanded")
    axes: dict[str, Sequence[Any]] = {
        "size": sizes,
        "dtype": [None, *other_dtypes],
        "values": ["typical", "scaled", "adversarial", "nonfinite"],
        "mode": modes,
        "alone": [False, True] if len(grads) > 1 else [False],
        "again": [False, True] if grads else [False],
        "cotangents": cotangents if grads else cotangents[:1],
    }
    first = next((each.name for each in contract.args if each.kind == "array" and not each.inplace), None)
    for argument in contract.args:
        if argument.kind == "array":
            left_out = {*(() if contexts else ("offset", EXPANDED)), *(() if argument.name == first else (EXPANDED,))}
            axes[f"layout of {argument.name}"] = [layout for layout in LAYOUTS if layout not in left_out]
        elif argument.values:
            axes[argument.name] = levels_of(argument, rng)
    return axes


def levels_of(argument: Argument, rng: np.random.Generator) -> list[Scalar]:
    """The trainer's values of a scalar, and some that nobody wrote down. Of a positive real number one between them,
    and where a schedule takes it to zero one below and one far below; of a whole number one between them, one beyond,
    and two far beyond where they reach over decades, as steps do."""
    reals = [value for value in argument.values if isinstance(value, float) and value > 0]
    if reals:
        between = math.exp(rng.uniform(math.log(min(reals)), math.log(max(reals))))
        reach = ((-FALL, -1.0), (-1.0, 0.0)) if 0.0 in argument.values else ()
        falls = [min(reals) * 10.0 ** rng.uniform(low, high) for low, high in reach]
        return [*argument.values, between, *falls]
    whole = [value for value in argument.values if type(value) is int]
    if not whole:
        return list(argument.values)
    least, most = min(whole), max(whole)
    drawn = {round(math.exp(rng.uniform(math.log(least), math.log(most)))), most + int(rng.integers(1, most + 1))}
    if most > FAR_FROM * least:
        drawn |= {round(most * math.exp(rng.uniform(math.log(low), math.log(high)))) for low, high in FAR_BEYOND}
    return [*argument.values, *sorted(drawn - set(whole))]


def as_a_trainer(axes: Mapping[str, Sequence[Any]], beyond: int, differentiable: bool) -> list[dict[str, Any]]:
    """Points in the trainer's dtype and with arrays in row-major order, which no kernel may decline: every value of
    every other axis at least once, and as many far sizes as there are, with gradients where there are any."""
    plain = {axis: values[:1] for axis, values in axes.items() if axis == "dtype" or axis.startswith("layout of ")}
    small = {**axes, **plain, "size": [size for size in axes["size"] if size != FAR]}
    points = [_turn(small, number) for number in range(max(map(len, small.values())))]
    if differentiable:  # the call that is most often compiled, with cotangents as attention hands them on
        points.append({**_turn(small, 0), "cotangents": "transposed"})
    modes = [mode for mode in axes["mode"] if mode in WITH_GRADIENTS or not differentiable]
    far = {**axes, **plain, "size": [FAR], "mode": modes, "values": axes["values"][:1], "alone": [False]}
    points += [_turn(far, number) for number in range(beyond)]
    if differentiable:  # once more as in an evaluation, with peaks and ties
        evaluation = next(mode for mode in ("no_grad", WITHOUT[0]) if mode in axes["mode"])
        far |= {"mode": [evaluation], "values": ["adversarial"]}
        points += [_turn(far, number) for number in range(beyond)]
    return points


def _turn(axes: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """The values of all axes whose turn it is."""
    return {axis: values[number % len(values)] for axis, values in axes.items()}


def workload_at(
    point: dict[str, Any], base: Workload, rng: np.random.Generator, deck: Deck, *, offsets: bool
) -> Workload:
    """The call that a point stands for. offsets: whether arrays may begin inside a block."""
    given = {spec["name"]: point[spec["name"]] for spec in base["args"] if spec["name"] in point}
    workload = w.variant(with_dtype(base, point["dtype"]) if point["dtype"] else base, **given)
    for spec in w.arrays(workload):
        layout = point[f"layout of {spec['name']}"]
        of_last, inside = deck.draw((spec["name"], layout), WAYS.get(layout, [(True, layout == "offset")]))
        spec["strides"] = laid_out(spec["shape"], layout, rng, of_last=of_last)
        # As a part of what one product makes lies.
        spec["offset"] = int(rng.integers(1, MOST_OFFSET + 1)) if inside and offsets else 0
    return workload


def laid_out(shape: Sequence[int], layout: str, rng: np.random.Generator, *, of_last: bool = True) -> list[int]:
    """Strides in elements of an array in one of LAYOUTS. of_last: see WAYS; so it is where there are no other axes."""
    if layout == "transposed" and len(shape) > 1:
        # Any two: attention holds its heads before the positions.
        last = len(shape) < 3 or of_last
        return w.transposed(shape, *([-2, -1] if last else sorted(rng.permutation(len(shape))[:2].tolist())))
    if layout == "gaps" and len(shape) > 1:
        # Behind rows, or behind some of them, as in a part of a longer sequence.
        outer = [axis for axis in range(1, len(shape) - 1) if math.prod(shape[:axis]) > 1]
        axis = int(rng.choice(outer)) if outer and not of_last else -1
        wider = list(shape)
        wider[axis] += int(rng.integers(1, 9))
        return w.contiguous(wider)
    if layout == EXPANDED and shape:
        return [0, *w.contiguous(shape)[1:]]
    if layout == "strided" and shape:
        return w.sliced([*shape, 1], 2, -1)[:-1]
    return w.contiguous(shape)


def cotangent_layout(layout: str, rng: np.random.Generator) -> str:
    """Cotangents with gaps have them behind rows, or are a part of longer sequences; exchanged are the first two axes,
    or the two that follow, as attention hands on what lies head by head."""
    other = {"gaps": "outer gaps", "transposed": "inner transposed"}.get(layout)
    return other if other and rng.integers(2) else layout


def in_one_row(case: Case) -> set[str]:
    """The arguments of which one row stands in all places."""
    return {axis.removeprefix("layout of ") for axis, layout in case.layouts if layout == EXPANDED}
