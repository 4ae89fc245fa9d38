"""Calls that differ from the captured ones in several ways at once: which scalars, dtype, size, layouts, values, and in
which context of autograd, such that any two of these meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, cycle, product
from typing import Any

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.workload import Workload
from autoresearch_lab.catalog import Contract
from autoresearch_lab.verify.axes import (
    FAR,
    LAYOUTS,
    WITH_GRADIENTS,
    WITHOUT,
    as_a_trainer,
    axes_of,
    cotangent_layout,
    workload_at,
)
from autoresearch_lab.verify.cases import ROUGH, Case, CaseStep, Contents, elements, exchanged, main_dtype
from autoresearch_lab.verify.covering import Deck, pairwise, refined
from autoresearch_lab.verify.unusual import MayBeZero, begun, scaled, with_cotangents_of
from autoresearch_trainer.jobs.calls import Mode

# Most elements of a call: there are many, and each costs the oracle time.
LARGEST = 1 << 14
SIZES = 6
# Beyond so many elements a far call is made once, with usual values.
LARGE_ONCE = 1 << 16
# How these have to be drawn so that one element can stand for many.
STYLES = {"expanded": "equal", "expanded first": "equal first", "expanded last": "equal last"}
# In which parameters want gradients as ever.
SWITCHED_OFF: tuple[Mode, ...] = ("no_grad", "inference_mode")
# A kernel may say that it holds whole rows, and that longer ones are too many for it.
WIDEST = 1 << 14
# So many calls, drawn, go through the compiler: each is compiled anew, which takes longer than all the others.
COMPILED = 6
# So many calls, drawn, are made with another number of threads: one, or more than small machines have.
OTHER_THREADS, MOST_THREADS = 6, 16
# Calls that must give the same bits, one after the other; so many that one wrong call in 500 is hardly missed. Compiled
# ones take longer.
REPEATS, COMPILED_REPEATS = 3000, 600


@dataclass
class Combinations:
    """Draws the cases of the group "combinations".

    draw, make: contents, and cases, of a `Planner`. contexts: whether the framework has modes of autograd that a call
    can be in. most: see `scaled`. alike: of an oracle that knows that, a call as another layer
    makes it, of the same shapes with other scalars."""

    contract: Contract
    draw: Callable[..., Contents]
    make: Callable[..., Case]
    rng: np.random.Generator
    contexts: bool
    most: Mapping[str, float]
    alike: Callable[[Workload, np.random.Generator], Workload] | None = None

    def __post_init__(self) -> None:
        args = self.contract.args
        self._deck = Deck(self.rng)
        self.grads = tuple(each.name for each in args if each.grad)
        sizes = range(1, len(self.grads))
        some = [chosen for size in sizes for chosen in combinations(self.grads, size)]
        self._some = cycle([some[place] for place in self.rng.permutation(len(some))])
        self.learned = tuple(each.name for each in args if each.grad or each.inplace)
        # What an optimizer is given and does not update are gradients.
        handed = tuple(each.name for each in args if each.kind == "array" and each.name not in self.learned)
        self.handed = handed if self.contract.phase == "optimizer" else ()

    def cases(
        self, neighbours: Sequence[Workload], beyond: Sequence[Workload], other_dtypes: Sequence[str]
    ) -> Iterator[Case]:
        """neighbours: of which small ones are taken. beyond: sizes far from the trainer's, which the other calls have.
        other_dtypes: the contract's besides the trainer's own."""
        sizes = self._sizes(neighbours)
        if not sizes:
            return
        levels = [*range(len(sizes)), *([FAR] if beyond else [])]
        axes = axes_of(self.contract, levels, other_dtypes, self.grads, self.rng, self.contexts)
        points, bases = self._points(axes, sizes, beyond)
        options = self._options(axes)
        repeated = self._repeated(axes, points, bases, options, sizes[0])
        repeats = dict.fromkeys(repeated, REPEATS // len(options))
        repeats |= dict.fromkeys(self._choose_compiled(points, repeated), COMPILED_REPEATS)
        threads = self._threads(points, repeated)
        settings = _more_scalars(self.contract, points, [elements(base) for base in bases], axes, self.rng)
        for number, (point, base) in enumerate(zip(points, bases, strict=True)):
            again, others = repeats.get(number, 0), threads.get(number, 0)
            yield self._case(number, point, base, settings.get(number, ()), again, others)

    def _sizes(self, neighbours: Sequence[Workload]) -> list[Workload]:
        """Up to SIZES small ones, drawn, in row-major order."""
        small = [each for each in neighbours if elements(each) <= LARGEST and all(map(w.is_contiguous, w.arrays(each)))]
        # A single axis has no layouts but every second element. An optimizer has vectors whose numbers change all the
        # same.
        several = [each for each in small if len(w.arrays(each)[0]["shape"]) > 1]
        vectors = [each for each in small if self.handed and len(w.arrays(each)[0]["shape"]) == 1]
        # In a single row or column much is right that is wrong elsewhere, and a loss over one class has no gradient;
        # `odd` has those.
        small = [each for each in several or small if not _is_single(each)] or small
        drawn = [small[place] for place in self.rng.permutation(len(small))[:SIZES]]
        vectors = [each for each in vectors if each not in drawn and w.arrays(each)[0]["shape"][0] > 1][:1]
        return [*drawn[: SIZES - len(vectors)], *vectors]

    def _points(
        self, axes: Mapping[str, Sequence[Any]], sizes: Sequence[Workload], beyond: Sequence[Workload]
    ) -> tuple[list[dict[str, Any]], list[Workload]]:
        """Points in which any two values meet, and the workload that each changes; every far one at least once with
        gradients, where there are any."""
        points = pairwise(axes, self.rng, as_a_trainer(axes, len(beyond), bool(self.grads)))
        differentiated = [point for point in points if point["mode"] in WITH_GRADIENTS] or points
        lacking = len(beyond) - sum(point["size"] == FAR for point in differentiated)
        points += [{**point, "size": FAR} for point in differentiated[: max(0, lacking)]]
        far = [number for number, point in enumerate(points) if point["size"] == FAR]
        far.sort(key=lambda number: points[number]["mode"] not in WITH_GRADIENTS)
        bases = [
            beyond[far.index(number) % len(beyond)] if point["size"] == FAR else sizes[point["size"]]
            for number, point in enumerate(points)
        ]
        return points, bases

    def _options(self, axes: Mapping[str, Sequence[Any]]) -> list[tuple[str, Any] | None]:
        """What a repeated call is made for, each: every choice that is made by a word, for the trainer makes one here
        and another there; of an optimizer every dtype, for what is kept of parameters in half precision need not be
        kept of others."""
        words = [(each.name, value) for each in self.contract.args for value in each.values if isinstance(value, str)]
        return [*words, *[("dtype", dtype) for dtype in axes["dtype"] if self.handed]] or [None]

    def _repeated(
        self,
        axes: Mapping[str, Sequence[Any]],
        points: list[dict[str, Any]],
        bases: list[Workload],
        options: Sequence[tuple[str, Any] | None],
        size: Workload,
    ) -> set[int]:
        """The calls that are repeated, with usual values and as small as there is: for each option one that is
        differentiated and one as in an evaluation. Where none is like that, one of that `size` is added to points and
        bases."""
        usual = {axis: next((each for each in levels if not _is_zero(each)), 0.0) for axis, levels in axes.items()}
        found: set[int] = set()
        for modes, option in product((WITH_GRADIENTS, SWITCHED_OFF[:1] if self.contexts else WITHOUT), options):
            able = [mode for mode in modes if mode in axes["mode"]]
            if not able:
                continue
            number = _quickest(points, bases, able, option)
            if number is None:
                number = len(points)
                points.append({**usual, "mode": able[0], **dict([option] if option else [])})
                bases.append(size)
            found.add(number)
        return found

    def _choose_compiled(self, points: list[dict[str, Any]], repeated: set[int]) -> list[int]:
        """Write into each point whether it goes through the compiler: no call that is repeated eagerly; none in
        inference mode, where PyTorch itself refuses code compiled for training; and none of a far size, for an honest
        loop over blocks of rows is unrolled when it is traced, which takes minutes then. Returns those that a trainer
        makes, which are repeated compiled."""
        unfit = [number for number, p in enumerate(points) if p["mode"] == "inference_mode" or p["size"] == FAR]
        able = [number for number in range(len(points)) if number not in {*repeated, *unfit}]
        trained, others = _through_compiler(self.rng.permutation(able).tolist(), points)
        for number, point in enumerate(points):
            point["compiled"] = number in (*trained, *others)
        return trained

    def _threads(self, points: Sequence[Mapping[str, Any]], repeated: set[int]) -> dict[int, int]:
        """{number of a point: threads that it has instead of the usual ones}."""
        drawn = [int(each) for each in self.rng.permutation(len(points))]
        able = [number for number in drawn if number not in repeated and not points[number]["compiled"]]
        threads = {number: int(self.rng.integers(5, MOST_THREADS + 1)) for number in able[:OTHER_THREADS]}
        return threads | dict.fromkeys(able[:1], 1)

    def _case(
        self,
        number: int,
        point: dict[str, Any],
        base: Workload,
        settings: Sequence[Mapping[str, Any]],
        repeats: int,
        threads: int,
    ) -> Case:
        """settings: scalars, and layouts of cotangents, of further steps. repeats: at most; 0: the call is not
        repeated."""
        workload = workload_at(point, base, self.rng, self._deck, offsets=self.contexts)
        wanted = self._wanted(point)
        leaves = self._leaves(point["mode"], all_of_them=bool(repeats))
        # As in a training of several batches to a step. Compiled a graph would be made for it.
        held = bool(self.rng.integers(2)) and not point["compiled"]
        # Of an array of zeros no other order shows; and of a far size there may be one call only.
        zero = MayBeZero((), ()) if repeats or point["size"] == FAR else MayBeZero(self.learned, self.handed)
        steps = self._steps(point, workload, bool(wanted), zero)
        if repeats:
            steps[0] = replace(steps[0], repeats=int(self.rng.integers(repeats // 2, repeats)))
        if self.alike is not None and point["size"] != FAR and point["mode"] in WITH_GRADIENTS:
            # Beside this call a trainer makes others of the same shapes.
            other = w.variant(workload, **w.scalars(self.alike(workload, self.rng)))
            steps.append(CaseStep(self._other_scalars(other, True, "contiguous", steps[-1].contents), brief=True))
        for place, setting in enumerate(settings):
            layout = setting.get("cotangents", "contiguous")
            given = w.variant(workload, **{name: value for name, value in setting.items() if name != "cotangents"})
            if place % 2:
                contents = self._usual(given, bool(wanted), layout, zero)
            else:
                contents = self._other_scalars(given, bool(wanted), layout, steps[-1].contents)
            steps.append(CaseStep(contents, layout=self._layout(layout), brief=True))
        return self.make(
            f"combination/{number}", "combinations", workload, steps, wanted,
            mode=point["mode"], compiled=point["compiled"], about=_words(point, self.contract), leaves=leaves,
            held=held, gathered=not held and not point["compiled"], threads=threads,
            layouts=tuple((axis, value) for axis, value in point.items() if axis.startswith("layout of ")),
        )  # fmt: skip

    def _wanted(self, point: Mapping[str, Any]) -> tuple[str, ...]:
        """The arguments whose gradients are asked for: all, or some of several; none comes twice before all did."""
        names = self.grads if point["mode"] in WITH_GRADIENTS else ()
        return next(self._some) if point["alone"] and len(names) > 1 else names

    def _leaves(self, mode: Mode, *, all_of_them: bool) -> tuple[str, ...]:
        """The arguments that want gradients where gradients are switched off; some, drawn, unless it is to be all."""
        if mode not in SWITCHED_OFF:
            return ()
        # Of an optimizer's arguments the first that it updates is the parameter.
        leaves = self.grads or self.learned[:1]
        return leaves if all_of_them else tuple(name for name in leaves if self.rng.integers(2))

    def _usual(self, workload: Workload, wanted: bool, cotangents: str, zero: MayBeZero) -> Contents:
        """Values as in a training. cotangents: their layout. wanted: whether there are any."""
        style = STYLES.get(cotangents, "random")
        contents = begun(self.draw(workload, "typical", wanted, style=style), zero, self.rng)
        return with_cotangents_of(contents, self.rng, self._deck, masked=style == "random")

    def _other_scalars(self, workload: Workload, wanted: bool, cotangents: str, before: Contents) -> Contents:
        """What the arrays held before, with other scalars: what was kept for these contents may not come again."""
        drawn = self.draw(workload, "typical", wanted, style=STYLES.get(cotangents, "random"))
        return Contents(before.arrays, drawn.scalars, drawn.cotangents, before.kind)

    def _layout(self, cotangents: str) -> str:
        return cotangent_layout(cotangents, self.rng) if self.contexts else cotangents

    def _steps(self, point: dict[str, Any], workload: Workload, wanted: bool, zero: MayBeZero) -> list[CaseStep]:
        """Usual values in every case, for with others a fault may not show; at the same addresses then the point's."""
        kind, layout = point["values"], point["cotangents"]
        far, style = point["size"] == FAR, STYLES.get(layout, "random")
        if far:  # there are few such calls: no cotangents are zero, and in the plain ones no padding lies at the end
            drawn = [self.draw(workload, "typical", wanted, style=style, padded=point["mode"] != "plain")]
        elif kind in ROUGH:  # the size of usual results is a measure for those of rough values
            drawn = [self.draw(workload, "typical", wanted, style=style)]
        else:
            drawn = [self._usual(workload, wanted, layout, zero)]
        if not far or (kind != "typical" and (elements(workload) <= LARGE_ONCE or not wanted)):
            other = self.draw(workload, "typical" if kind == "scaled" else kind, wanted, style=style)
            drawn.append(scaled(other, self.rng, self._deck, self.most) if kind == "scaled" else other)
        if not wanted and not far:
            # As captured calls have it: a result kept by a fingerprint of the contents, or by one argument, shows.
            drawn.append(exchanged(drawn[0], self.rng))
            if len(drawn[0].arrays) > 1:
                drawn.append(exchanged(drawn[0], self.rng, alone=str(self.rng.choice(list(drawn[0].arrays)))))
        steps = [CaseStep(each, layout=self._layout(layout), again=point["again"]) for each in drawn]
        if far and wanted:  # attention hands its cotangents on head by head
            turned = "inner transposed" if self.contexts else "transposed"
            steps.append(CaseStep(self.draw(workload, "typical", wanted), layout=turned, brief=True))
        return steps


def _through_compiler(numbers: Sequence[int], points: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Which of these points, in a drawn order, are compiled: one as a trainer makes it in a training step and one as in
    an evaluation; and others, each mode once before any comes twice, and as far as that goes each layout and size."""
    plain = [number for number in numbers if points[number]["dtype"] is None and _row_major(points[number])]
    # What is promised of an operator shows where its cotangents lie otherwise than its arguments do.
    plain.sort(key=lambda number: points[number]["cotangents"] != "transposed")
    chosen = [
        next((number for number in plain if points[number]["mode"] in modes), None)
        for modes in (WITH_GRADIENTS, SWITCHED_OFF)
    ]
    trained = [number for number in chosen if number is not None]
    first = [*trained]
    others = [number for number in numbers if number not in first]
    # Of those alike first the one with axes exchanged: what lies as its argument does lies otherwise there.
    others.sort(key=lambda number: "transposed" not in [value for _, value in _mode_and_layout(points[number])])
    while others and len(first) < COMPILED:
        seen = Counter(value for number in first for value in _mode_and_layout(points[number]))
        others.sort(key=lambda number: [seen[value] for value in _mode_and_layout(points[number])])
        first.append(others.pop(0))
    return trained, first[len(trained) :]


def _is_single(workload: Workload) -> bool:
    """Whether the first array, or a matrix among the others, has one row or column, or is a single number."""
    shapes = [spec["shape"] for spec in w.arrays(workload)]
    return min(shapes[0], default=0) <= 1 or any(1 in shape for shape in shapes if len(shape) == 2)


def _row_major(point: Mapping[str, Any]) -> bool:
    return all(value == LAYOUTS[0] for axis, value in point.items() if axis.startswith("layout of "))


def _mode_and_layout(point: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Those of a point and its size, the layouts being the first array's and, where there are any, the cotangents'."""
    layouts = [axis for axis in point if axis.startswith("layout of ")][:1]
    layouts += ["cotangents"] if point["mode"] in WITH_GRADIENTS else []
    return [(axis, point[axis]) for axis in ("mode", *layouts, "size")]


def _quickest(
    points: list[dict[str, Any]], bases: list[Workload], modes: Sequence[Mode], option: tuple[str, Any] | None
) -> int | None:
    """The smallest of the calls with usual values in one of these modes, in the trainer's dtype or with this value of a
    scalar or the dtype; none with a rate of zero, by which most of what an optimizer's kernel does wrong is multiplied.
    """
    usual = [number for number, p in enumerate(points) if p["values"] == "typical" and p["mode"] in modes]
    usual = [number for number in usual if not any(map(_is_zero, points[number].values()))]
    wanted: dict[str, Any] = {"dtype": None, **dict([option] if option else [])}
    usual = [number for number in usual if all(points[number][axis] == value for axis, value in wanted.items())]
    return min(usual, key=lambda number: elements(bases[number]), default=None)


def _is_zero(value: Any) -> bool:
    return isinstance(value, float) and value == 0.0


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
