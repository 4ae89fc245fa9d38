"""Calls that differ from the captured ones in several ways at once: which scalars, dtype, size, layouts, values, and in
which context of autograd, such that any two of these meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.arrays import is_float
from autoresearch_common.workload import Scalar, Workload
from autoresearch_lab.catalog import Argument, Contract
from autoresearch_lab.verify.cases import Case, CaseStep, Contents, elements, main_dtype, with_dtype
from autoresearch_lab.verify.covering import pairwise
from autoresearch_trainer.jobs.calls import Mode

# Most elements of a call: there are many, and each costs the oracle time.
LARGEST = 1 << 14
SIZES = 6
# How an array lies in memory, the usual first: row-major; with its last two axes exchanged; rows with gaps behind them;
# beginning inside a larger block, where no vector is aligned; every second element.
LAYOUTS = ("contiguous", "transposed", "gaps", "offset", "strided")
# Cotangents come as the operator behind the kernel hands them on: like arguments, or one element seen in many places.
COTANGENTS = (*LAYOUTS, "expanded", "expanded first", "expanded last")
# How these have to be drawn so that one element can stand for many.
STYLES = {"expanded": "equal", "expanded first": "equal first", "expanded last": "equal last"}
WITH_GRADIENTS: tuple[Mode, ...] = ("plain", "not a leaf", "interleaved", "checkpointed")
WITHOUT: tuple[Mode, ...] = ("nothing wanted", "no_grad", "inference_mode")
# Factors for all values of an array, as powers of ten; float16 has no room for more.
DECADES = {"float16": 2.0}
MOST_DECADES = 7.0
# So many calls, drawn, go through torch.compile: each is compiled anew, which takes longer than all the others.
COMPILED = 6
# Calls that must give the same bits, one after the other; so many that one wrong call in 500 is hardly missed.
REPEATS = 3000


def combinations(
    contract: Contract,
    neighbours: Sequence[Workload],
    other_dtypes: Sequence[str],
    grads: tuple[str, ...],
    draw: Callable[..., Contents],
    make: Callable[..., Case],
    rng: np.random.Generator,
    *,
    contexts: bool,
) -> Iterator[Case]:
    """The cases of the group "combinations". draw, make: contents, and cases, of a `Planner`. contexts: whether the
    framework has modes of autograd and a compiler that a call can be in."""
    small = [each for each in neighbours if elements(each) <= LARGEST and all(map(w.is_contiguous, w.arrays(each)))]
    # In a single row or column much is right that is wrong elsewhere; `odd` has those.
    small = [each for each in small if min(w.arrays(each)[0]["shape"], default=0) > 1] or small
    sizes = [small[place] for place in rng.permutation(len(small))[:SIZES]]
    if not sizes:
        return
    points = pairwise(_axes(contract, sizes, other_dtypes, grads, rng, contexts), rng)
    # Repeated is one with usual values, as small as there is.
    quick = [number for number, point in enumerate(points) if point["values"] == "typical"]
    repeated = min(quick, key=lambda number: elements(sizes[points[number]["size"]]), default=None)
    # Not the repeated call, nor one in inference mode, in which PyTorch itself refuses code compiled for training.
    refused = {repeated, *(number for number, point in enumerate(points) if point["mode"] == "inference_mode")}
    compilable = [number for number in range(len(points)) if contexts and number not in refused]
    through_compiler = set(rng.permutation(compilable)[:COMPILED].tolist())
    for number, point in enumerate(points):
        point["compiled"] = number in through_compiler
        workload = _workload(point, sizes, rng)
        mode: Mode = point["mode"]
        wanted = grads if mode in WITH_GRADIENTS else ()
        if point["alone"] and len(wanted) > 1:
            wanted = (wanted[int(rng.integers(len(wanted)))],)
        kind, style = point["values"], STYLES.get(point["cotangents"], "random")
        # Usual values in every case: with others a fault may not show.
        usual = draw(workload, "typical", bool(wanted), style=style)
        other = draw(workload, "typical" if kind == "scaled" else kind, bool(wanted), style=style)
        drawn = [usual, scaled(other, rng) if kind == "scaled" else other]
        steps = [CaseStep(contents, layout=point["cotangents"], again=point["again"]) for contents in drawn]
        if number == repeated:
            steps[0] = replace(steps[0], repeats=int(rng.integers(REPEATS // 2, REPEATS)))
        yield make(
            f"combination/{number}", "combinations", workload, steps, wanted,
            mode=mode, compiled=point["compiled"], about=_words(point, contract),
        )  # fmt: skip


def _axes(
    contract: Contract,
    sizes: list[Workload],
    other_dtypes: Sequence[str],
    grads: tuple[str, ...],
    rng: np.random.Generator,
    contexts: bool,
) -> dict[str, Sequence[Any]]:
    modes = [*(WITH_GRADIENTS if grads else ()), *WITHOUT] if contexts else ["plain" if grads else "nothing wanted"]
    cotangents = COTANGENTS if contexts else ("contiguous", "transposed", "expanded")
    axes: dict[str, Sequence[Any]] = {
        "size": range(len(sizes)),
        "dtype": [None, *other_dtypes],
        "values": ["typical", "scaled", "adversarial"],
        "mode": modes,
        "alone": [False, True] if len(grads) > 1 else [False],
        "again": [False, True] if grads else [False],
        "cotangents": cotangents if grads else cotangents[:1],
    }
    for argument in contract.args:
        if argument.kind == "array":
            axes[f"layout of {argument.name}"] = LAYOUTS if contexts else [each for each in LAYOUTS if each != "offset"]
        elif argument.values:
            axes[argument.name] = _levels(argument, rng)
    return axes


def _levels(argument: Argument, rng: np.random.Generator) -> list[Scalar]:
    """The trainer's values of a scalar, and of a positive real number one between them that nobody wrote down."""
    numbers = [value for value in argument.values if isinstance(value, float) and value > 0]
    if not numbers:
        return list(argument.values)
    return [*argument.values, math.exp(rng.uniform(math.log(min(numbers)), math.log(max(numbers))))]


def _workload(point: dict[str, Any], sizes: list[Workload], rng: np.random.Generator) -> Workload:
    base = sizes[point["size"]]
    given = {spec["name"]: point[spec["name"]] for spec in base["args"] if spec["name"] in point}
    workload = w.variant(with_dtype(base, point["dtype"]) if point["dtype"] else base, **given)
    for spec in w.arrays(workload):
        spec["strides"], spec["offset"] = laid_out(spec["shape"], point[f"layout of {spec['name']}"], rng)
    return workload


def laid_out(shape: Sequence[int], layout: str, rng: np.random.Generator) -> tuple[list[int], int]:
    """(strides, offset) in elements of an array in one of LAYOUTS."""
    if layout == "transposed" and len(shape) > 1:
        return w.transposed(shape, -2, -1), 0
    if layout == "gaps" and len(shape) > 1:
        wider = [*shape[:-1], shape[-1] + int(rng.integers(1, 9))]
        return w.contiguous(wider), 0
    if layout == "strided" and shape:
        return w.sliced([*shape, 1], 2, -1)[:-1], 0
    return w.contiguous(shape), int(rng.integers(1, 33)) if layout == "offset" else 0


def scaled(contents: Contents, rng: np.random.Generator) -> Contents:
    """The same with every floating array times a factor of its own, some rows constant and some with their largest
    element twice: values that neither usual numbers nor extreme ones reach."""
    arrays = {}
    for name, array in contents.arrays.items():
        if not is_float(array) or array.ndim == 0 or not array.size:
            arrays[name] = array
            continue
        decades = DECADES.get(str(array.dtype), MOST_DECADES)
        rows = array.astype(np.float64).reshape(-1, array.shape[-1]) * 10.0 ** rng.uniform(-decades, decades)
        for row in rng.permutation(len(rows))[: max(1, len(rows) // 8)]:
            rows[row] = rows[row, 0]
        for row in rng.permutation(len(rows))[: max(1, len(rows) // 8)]:
            rows[row, rng.integers(rows.shape[1])] = rows[row].max()
        arrays[name] = rows.reshape(array.shape).astype(array.dtype)
    return Contents(arrays, contents.scalars, contents.cotangents, "scaled")


def _words(point: dict[str, Any], contract: Contract) -> str:
    """What is unusual about a point."""
    scalars = [f"{each.name} {point[each.name]}" for each in contract.args if each.name in point]
    layouts = [
        f"{name.removeprefix('layout of ')} {value}"
        for name, value in point.items()
        if name.startswith("layout of ") and value != "contiguous"
    ]
    told = [*scalars, *layouts]
    if point["mode"] in WITH_GRADIENTS and point["cotangents"] != "contiguous":
        told.append(f"cotangents {point['cotangents']}")
    told += [point["mode"]] if point["mode"] != "plain" else []
    told += [word for word, yes in (("compiled", point["compiled"]), ("backward twice", point["again"])) if yes]
    return ", ".join(told)


def trainer_makes(case: Case, captured: set[str | None]) -> bool:
    """Whether a trainer could make this call: in its dtype, with arrays as it lays them out."""
    plain = all(w.is_contiguous(spec) and not spec.get("offset") for spec in w.arrays(case.workload))
    return plain and main_dtype(case.workload) in captured
