"""Calls that differ from the captured ones in several ways at once: which scalars, dtype, size, layouts, values, and in
which context of autograd, such that any two of these meet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.arrays import is_float
from autoresearch_common.workload import Scalar, Workload
from autoresearch_lab.catalog import Argument, Contract
from autoresearch_lab.verify.cases import Case, CaseStep, Contents, elements, exchanged, main_dtype, with_dtype
from autoresearch_lab.verify.covering import pairwise, refined
from autoresearch_trainer.jobs.calls import Mode

# Most elements of a call: there are many, and each costs the oracle time.
LARGEST = 1 << 14
SIZES = 6
# Beyond so many elements a far call is made once, with usual values.
LARGE_ONCE = 1 << 16
# The level of the axis "size" whose calls are far larger than the others, or have other proportions.
FAR = -1
# How an array lies in memory, the usual first: row-major; with its last two axes exchanged; rows with gaps behind them;
# beginning inside a larger block, where no vector is aligned; every second element; one element of the first axis seen
# in all its places. That only the first argument is, unless it is written to: weights or keys that are all alike make
# sums that cancel, by which no honest kernel can be measured.
EXPANDED = "expanded"
LAYOUTS = ("contiguous", "transposed", "gaps", "offset", "strided", EXPANDED)
# Of arrays of three axes and more with gaps, the share that has them not behind rows.
OUTER = 2 / 3
# Cotangents come as the operator behind the kernel hands them on: like arguments, or one element seen in many places.
COTANGENTS = (*LAYOUTS, "expanded first", "expanded last")
# How these have to be drawn so that one element can stand for many.
STYLES = {"expanded": "equal", "expanded first": "equal first", "expanded last": "equal last"}
WITH_GRADIENTS: tuple[Mode, ...] = ("plain", "not a leaf", "interleaved", "checkpointed")
WITHOUT: tuple[Mode, ...] = ("nothing wanted", "no_grad", "inference_mode")
# In which parameters want gradients as ever.
SWITCHED_OFF: tuple[Mode, ...] = ("no_grad", "inference_mode")
# A kernel may say that it holds whole rows, and that longer ones are too many for it.
WIDEST = 1 << 14
# Factors for all values of an array, as powers of ten; float16 has no room for more.
DECADES = {"float16": 2.0}
MOST_DECADES = 7.0
# Cotangents times powers of two, as a mean over many rows and a scaled loss make them; float16 has little room.
CHANCE_SIZE, SIZES_OF_COTANGENTS, SIZES_IN_FLOAT16 = 0.5, (-24, 16), (-6, 4)
# As at the start of a training: an array is zero throughout, a factor is one of these.
CHANCE_BEGUN, BEGUN_FACTORS = 0.25, (1.0, 0.0, -1.0)
# Of a table some rows were not used, so that their gradient is zero.
CHANCE_UNTOUCHED = 0.4
# By so many powers of ten at most a scalar is below its smallest value, where it falls to zero.
FALL = 4.0
# Of several outputs one is not used: its cotangent is zero throughout.
CHANCE_UNUSED = 0.3
# Rows that a loss leaves out have a cotangent of zero; at the start of a training, behind weights of zero, all have.
CHANCE_MASKED, CHANCE_NO_COTANGENT = 0.35, 0.1
# So many calls, drawn, go through torch.compile: each is compiled anew, which takes longer than all the others.
COMPILED = 6
# So many calls, drawn, are made with another number of threads: one, or more than small machines have.
OTHER_THREADS, MOST_THREADS = 6, 16
# Calls that must give the same bits, one after the other; so many that one wrong call in 500 is hardly missed.
REPEATS = 3000


class _MayBeZero(NamedTuple):
    """Arrays that usual contents may have zero: those that are learned or an optimizer's state, and the gradients that
    an optimizer is handed."""

    learned: Sequence[str]
    handed: Sequence[str]


def combinations(
    contract: Contract,
    neighbours: Sequence[Workload],
    beyond: Sequence[Workload],
    other_dtypes: Sequence[str],
    draw: Callable[..., Contents],
    make: Callable[..., Case],
    rng: np.random.Generator,
    *,
    contexts: bool,
    most: Mapping[str, float],
) -> Iterator[Case]:
    """The cases of the group "combinations". beyond: sizes far from the trainer's, one of which a call has that is not
    small. draw, make: contents, and cases, of a `Planner`. contexts: whether the framework has modes of autograd and a
    compiler that a call can be in. most: see `scaled`."""
    grads = tuple(argument.name for argument in contract.args if argument.grad)
    learned = tuple(argument.name for argument in contract.args if argument.grad or argument.inplace)
    # What an optimizer is given and does not update are gradients.
    handed = tuple(each.name for each in contract.args if each.kind == "array" and each.name not in learned)
    handed = handed if contract.phase == "optimizer" else ()
    small = [each for each in neighbours if elements(each) <= LARGEST and all(map(w.is_contiguous, w.arrays(each)))]
    # In a single row or column much is right that is wrong elsewhere; `odd` has those.
    # A single axis has no layouts but every second element.
    several = [each for each in small if len(w.arrays(each)[0]["shape"]) > 1]
    small = [each for each in several or small if min(w.arrays(each)[0]["shape"], default=0) > 1] or small
    sizes = [small[place] for place in rng.permutation(len(small))[:SIZES]]
    if not sizes:
        return
    axes = _axes(contract, [*range(len(sizes)), *([FAR] if beyond else [])], other_dtypes, grads, rng, contexts)
    points = pairwise(axes, rng, _as_a_trainer(axes, len(beyond), bool(grads)))
    # Every far size at least once with gradients, where there are any.
    differentiated = [point for point in points if point["mode"] in WITH_GRADIENTS] or points
    lacking = len(beyond) - sum(point["size"] == FAR for point in differentiated)
    points += [{**point, "size": FAR} for point in differentiated[: max(0, lacking)]]
    far = [number for number, point in enumerate(points) if point["size"] == FAR]
    far.sort(key=lambda number: points[number]["mode"] not in WITH_GRADIENTS)
    bases = [
        beyond[far.index(number) % len(beyond)] if point["size"] == FAR else sizes[point["size"]]
        for number, point in enumerate(points)
    ]
    usual = {axis: levels[0] for axis, levels in axes.items()}
    # Repeated are two with usual values, as small as there is: one that is differentiated and one that is not. Two for
    # each choice that is made by a word, for the trainer makes one here and another there; of an optimizer one for each
    # dtype, for what is kept of parameters in half precision need not be kept of others.
    switched_off = SWITCHED_OFF if contexts else WITHOUT
    words = [(each.name, value) for each in contract.args for value in each.values if isinstance(value, str)]
    options: list[tuple[str, Any] | None] = [*words, *[("dtype", dtype) for dtype in axes["dtype"] if handed]] or [None]
    repeated = set()
    for modes, option in product((WITH_GRADIENTS, switched_off), options):
        able = [mode for mode in modes if mode in axes["mode"]]
        if able and _quickest(points, bases, able, option) is None:
            points.append({**usual, "mode": able[0], **dict([option] if option else [])})
            bases.append(sizes[usual["size"]])
        repeated.add(_quickest(points, bases, able, option))
    # Not a repeated call; nor one in inference mode, in which PyTorch itself refuses code compiled for training; nor
    # one of a far size: an honest loop over blocks of rows is unrolled when it is traced, which takes minutes then.
    unfit = [number for number, point in enumerate(points) if point["mode"] == "inference_mode" or point["size"] == FAR]
    refused = {*repeated, *unfit}
    compilable = [number for number in range(len(points)) if contexts and number not in refused]
    through_compiler = _through_compiler(rng.permutation(compilable).tolist(), points)
    for number, point in enumerate(points):
        point["compiled"] = number in through_compiler
    threaded = [int(each) for each in rng.permutation(len(points)) if each not in through_compiler | repeated]
    threads = {number: int(rng.integers(5, MOST_THREADS + 1)) for number in threaded[:OTHER_THREADS]}
    threads |= dict.fromkeys(threaded[:1], 1)
    settings = _more_scalars(contract, points, [elements(base) for base in bases], axes, rng)
    for number, (point, base) in enumerate(zip(points, bases, strict=True)):
        workload = _workload(point, base, rng)
        mode: Mode = point["mode"]
        wanted = grads if mode in WITH_GRADIENTS else ()
        if point["alone"] and len(wanted) > 1:
            # One, or all but one.
            place, others = int(rng.integers(len(wanted))), bool(rng.integers(2))
            wanted = tuple(name for number, name in enumerate(wanted) if (number == place) != others)
        # Of an optimizer's arguments the first that it updates is the parameter.
        leaves = grads or learned[:1]
        if mode not in SWITCHED_OFF:
            leaves = ()
        elif number not in repeated:
            leaves = tuple(name for name in leaves if rng.integers(2))
        # As in a training of several batches to a step. Compiled a graph would be made for it.
        held = bool(rng.integers(2)) and not point["compiled"]
        # Of an array of zeros no other order shows.
        zero = _MayBeZero((), ()) if number in repeated else _MayBeZero(learned, handed)
        steps = _steps(point, workload, bool(wanted), draw, rng, most, zero)
        if number in repeated:
            steps[0] = replace(steps[0], repeats=int(rng.integers(REPEATS // 2, REPEATS)) // len(options))
        for setting in settings.get(number, ()):
            layout = setting.get("cotangents", "contiguous")
            given = w.variant(workload, **{name: value for name, value in setting.items() if name != "cotangents"})
            style = STYLES.get(layout, "random")
            contents = _begun(draw(given, "typical", bool(wanted), style=style), zero, rng)
            contents = _with_cotangents_of(contents, rng, masked=style == "random")
            steps.append(CaseStep(contents, layout=_gaps(layout, rng), brief=True))
        yield make(
            f"combination/{number}", "combinations", workload, steps, wanted,
            mode=mode, compiled=point["compiled"], about=_words(point, contract), leaves=leaves,
            held=held, gathered=not held and not point["compiled"], threads=threads.get(number, 0),
            layouts=tuple((axis, value) for axis, value in point.items() if axis.startswith("layout of ")),
        )  # fmt: skip


def _steps(
    point: dict[str, Any],
    workload: Workload,
    wanted: bool,
    draw: Callable[..., Contents],
    rng: np.random.Generator,
    most: Mapping[str, float],
    zero: _MayBeZero,
) -> list[CaseStep]:
    """Usual values in every case, for with others a fault may not show; then, at the same addresses, the point's."""
    kind, style = point["values"], STYLES.get(point["cotangents"], "random")
    begun = _begun(draw(workload, "typical", wanted, style=style), zero, rng)
    drawn = [_with_cotangents_of(begun, rng, masked=style == "random")]
    if point["size"] != FAR or (kind != "typical" and elements(workload) <= LARGE_ONCE):
        other = draw(workload, "typical" if kind == "scaled" else kind, wanted, style=style)
        drawn.append(scaled(other, rng, most) if kind == "scaled" else other)
    if not wanted and point["size"] != FAR:
        # As captured calls have it: a result kept by a fingerprint of the contents, or by one argument, shows.
        drawn.append(exchanged(drawn[0], rng))
        if len(drawn[0].arrays) > 1:
            drawn.append(exchanged(drawn[0], rng, alone=str(rng.choice(list(drawn[0].arrays)))))
    return [CaseStep(contents, layout=_gaps(point["cotangents"], rng), again=point["again"]) for contents in drawn]


def _gaps(layout: str, rng: np.random.Generator) -> str:
    """Cotangents with gaps have them behind rows, or are a part of longer sequences."""
    return "outer gaps" if layout == "gaps" and rng.integers(2) else layout


def _begun(contents: Contents, zero: _MayBeZero, rng: np.random.Generator) -> Contents:
    """The same, or as at the start of a training: one of the arrays that are learned, or of an optimizer's state, zero
    throughout, factors one. Or with the gradients that an optimizer is handed zero: all, or those of some rows of a
    table or some matrices of a stack."""
    arrays, (learned, handed) = dict(contents.arrays), zero
    if handed and rng.random() < CHANCE_UNTOUCHED:
        whole = rng.random() < CHANCE_BEGUN
        for name in handed:
            arrays[name] = np.zeros_like(arrays[name]) if whole else _some_zero(arrays[name], rng)
        return Contents(arrays, contents.scalars, contents.cotangents, contents.kind)
    for name in learned:
        if not arrays[name].ndim and rng.random() < CHANCE_BEGUN:
            arrays[name] = np.full_like(arrays[name], rng.choice(BEGUN_FACTORS))
    names = [name for name in learned if arrays[name].ndim]
    if names and rng.random() < CHANCE_BEGUN:
        name = names[int(rng.integers(len(names)))]
        arrays[name] = np.zeros_like(arrays[name])
    return Contents(arrays, contents.scalars, contents.cotangents, contents.kind)


def _some_zero(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same with half of its places along the first axis zero; as it is where it has but one."""
    if not array.ndim or len(array) < 2:
        return array
    changed = array.copy()
    changed[rng.permutation(len(array))[: len(array) // 2]] = 0
    return changed


def _rows_left_out(cotangent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same with half of its rows zero, or of its elements where there is but one axis."""
    rows = cotangent.reshape(-1, cotangent.shape[-1]) if cotangent.ndim > 1 else cotangent
    return _some_zero(rows, rng).reshape(cotangent.shape)


def _with_cotangents_of(contents: Contents, rng: np.random.Generator, *, masked: bool) -> Contents:
    """The same, or with cotangents far from 1, or zero in some rows or throughout, or with one of several outputs not
    used. masked: some rows may be zero; where one element stands for many they stay equal."""
    if contents.cotangents is None:
        return contents
    cotangents = list(contents.cotangents)
    if rng.random() < CHANCE_SIZE:
        small = any(str(array.dtype) == "float16" for array in (*contents.arrays.values(), *cotangents))
        low, high = SIZES_IN_FLOAT16 if small else SIZES_OF_COTANGENTS
        factor = 2.0 ** int(rng.integers(low, high + 1))
        cotangents = [(each.astype(np.float64) * factor).astype(each.dtype) for each in cotangents]
    if len(cotangents) > 1 and rng.random() < CHANCE_UNUSED:
        place = int(rng.integers(len(cotangents)))
        cotangents[place] = np.zeros_like(cotangents[place])
    chance = rng.random()
    if chance < CHANCE_NO_COTANGENT:
        cotangents = [np.zeros_like(each) for each in cotangents]
    elif chance < CHANCE_NO_COTANGENT + CHANCE_MASKED and masked:
        cotangents = [_rows_left_out(each, rng) for each in cotangents]
    return Contents(contents.arrays, contents.scalars, tuple(cotangents), contents.kind)


def _as_a_trainer(axes: Mapping[str, Sequence[Any]], beyond: int, differentiable: bool) -> list[dict[str, Any]]:
    """Points in the trainer's dtype and with arrays in row-major order, which no kernel may decline: every value of
    every other axis at least once, and as many far sizes as there are, with gradients where there are any."""
    plain = {axis: values[:1] for axis, values in axes.items() if axis == "dtype" or axis.startswith("layout of ")}
    small = {**axes, **plain, "size": [size for size in axes["size"] if size != FAR]}
    points = [_turn(small, number) for number in range(max(map(len, small.values())))]
    modes = [mode for mode in axes["mode"] if mode in WITH_GRADIENTS or not differentiable]
    far = {**axes, **plain, "size": [FAR], "mode": modes, "values": axes["values"][:1]}
    return points + [_turn(far, number) for number in range(beyond)]


def _turn(axes: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """The values of all axes whose turn it is."""
    return {axis: values[number % len(values)] for axis, values in axes.items()}


def _through_compiler(numbers: Sequence[int], points: list[dict[str, Any]]) -> set[int]:
    """Which of these points, in a drawn order, are compiled: one as a trainer makes it in a training step and one as in
    an evaluation, and others, each mode once before any comes twice, and as far as that goes each layout."""
    plain = [number for number in numbers if points[number]["dtype"] is None and _row_major(points[number])]
    chosen = [
        next((number for number in plain if points[number]["mode"] in modes), None)
        for modes in (WITH_GRADIENTS, SWITCHED_OFF)
    ]
    first = [number for number in chosen if number is not None]
    others = [number for number in numbers if number not in first]
    # Of those alike first the one with axes exchanged: what lies as its argument does lies otherwise there.
    others.sort(key=lambda number: "transposed" not in [value for _, value in _mode_and_layout(points[number])])
    while others and len(first) < COMPILED:
        seen = Counter(value for number in first for value in _mode_and_layout(points[number]))
        others.sort(key=lambda number: [seen[value] for value in _mode_and_layout(points[number])])
        first.append(others.pop(0))
    return set(first)


def _row_major(point: Mapping[str, Any]) -> bool:
    return all(value == LAYOUTS[0] for axis, value in point.items() if axis.startswith("layout of "))


def _mode_and_layout(point: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Those of a point, the layout being the first array's."""
    return [(axis, point[axis]) for axis in ("mode", *[axis for axis in point if axis.startswith("layout of ")][:1])]


def _quickest(
    points: list[dict[str, Any]], bases: list[Workload], modes: Sequence[Mode], option: tuple[str, Any] | None
) -> int | None:
    """The smallest of the calls with usual values in one of these modes, and with this value of a scalar."""
    usual = [number for number, p in enumerate(points) if p["values"] == "typical" and p["mode"] in modes]
    usual = [number for number in usual if option is None or points[number][option[0]] == option[1]]
    return min(usual, key=lambda number: elements(bases[number]), default=None)


def _more_scalars(
    contract: Contract,
    points: list[dict[str, Any]],
    counts: Sequence[int],
    axes: dict[str, Sequence[Any]],
    rng: np.random.Generator,
) -> dict[int, list[dict[str, Any]]]:
    """{number of a point: further values of its scalars and layouts of its cotangents}: any value of a scalar meets any
    two layouts, and any two scalars' values any layout. counts: of elements of the points' calls."""
    scalars = [each.name for each in contract.args if each.name in axes]
    layouts = [axis for axis in axes if axis.startswith("layout of ")]
    found: dict[int, list[dict[str, Any]]] = {}
    if not scalars:
        return found
    # Each further value would be compiled anew, and in large calls costs what the large call does.
    able = [number for number, point in enumerate(points) if not point["compiled"] and point["size"] != FAR]
    both = [number for number in able if points[number]["mode"] in WITH_GRADIENTS]
    met: list[dict[str, Any]] = []
    for numbers, seen in ((both, [*layouts, "cotangents"]), (able, layouts)):
        names = [*scalars, *seen]
        own = [{name: points[number][name] for name in names} for number in numbers]
        cost = [500 + counts[number] for number in numbers]
        free = {name: axes[name] for name in names if name not in layouts}
        more = refined(
            own, free, cost, lambda three: bool(three & set(scalars)) and bool(three - set(scalars)), rng, met
        )
        for place, setting in more:
            found.setdefault(numbers[place], []).append(setting)
            met.append({**own[place], **setting})
        met += own
    return found


def _axes(
    contract: Contract,
    sizes: Sequence[int],
    other_dtypes: Sequence[str],
    grads: tuple[str, ...],
    rng: np.random.Generator,
    contexts: bool,
) -> dict[str, Sequence[Any]]:
    modes = [*(WITH_GRADIENTS if grads else ()), *WITHOUT] if contexts else ["plain" if grads else "nothing wanted"]
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
    and where a schedule takes it to zero one far below; of a whole number one between them and one beyond."""
    reals = [value for value in argument.values if isinstance(value, float) and value > 0]
    if reals:
        between = math.exp(rng.uniform(math.log(min(reals)), math.log(max(reals))))
        falls = [min(reals) * 10.0 ** rng.uniform(-FALL, -1.0)] if 0.0 in argument.values else []
        return [*argument.values, between, *falls]
    whole = [value for value in argument.values if type(value) is int]
    if not whole:
        return list(argument.values)
    least, most = min(whole), max(whole)
    drawn = {round(math.exp(rng.uniform(math.log(least), math.log(most)))), most + int(rng.integers(1, most + 1))}
    return [*argument.values, *sorted(drawn - set(whole))]


def _workload(point: dict[str, Any], base: Workload, rng: np.random.Generator) -> Workload:
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
        # Behind rows, or behind some of them, as in a part of a longer sequence.
        outer = [axis for axis in range(1, len(shape) - 1) if math.prod(shape[:axis]) > 1]
        axis = int(rng.choice(outer)) if outer and rng.random() < OUTER else -1
        wider = list(shape)
        wider[axis] += int(rng.integers(1, 9))
        return w.contiguous(wider), 0
    if layout == EXPANDED and shape:
        return [0, *w.contiguous(shape)[1:]], 0
    if layout == "strided" and shape:
        return w.sliced([*shape, 1], 2, -1)[:-1], 0
    return w.contiguous(shape), int(rng.integers(1, 33)) if layout == "offset" else 0


def scaled(contents: Contents, rng: np.random.Generator, most: Mapping[str, float]) -> Contents:
    """The same with every floating array times a factor of its own, some rows constant and some with their largest
    element twice: values that neither usual numbers nor extreme ones reach. most: by argument, the largest magnitude
    that a factor may bring it to."""
    arrays = {}
    for name, array in contents.arrays.items():
        if not is_float(array) or array.ndim == 0 or not array.size:
            arrays[name] = array
            continue
        decades = DECADES.get(str(array.dtype), MOST_DECADES)
        rows = array.astype(np.float64).reshape(-1, array.shape[-1])
        room = most.get(name, np.inf) / (np.max(np.abs(rows)) or 1.0)
        rows *= 10.0 ** rng.uniform(-decades, min(decades, math.log10(room)))
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
    """Whether a trainer could make this call: in its dtype, with arrays as it lays them out, and rows that a kernel may
    be asked to hold whole, of any number."""
    specs = w.arrays(case.workload)
    plain = all(w.is_contiguous(spec) and not spec.get("offset") for spec in specs)
    rows = next((spec["shape"][0] for spec in specs if spec["shape"]), 0)
    sizes = [size for spec in specs for axis, size in enumerate(spec["shape"]) if axis or size != rows]
    return plain and main_dtype(case.workload) in captured and max(sizes, default=0) <= WIDEST
