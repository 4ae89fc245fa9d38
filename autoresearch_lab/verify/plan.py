"""Draws the cases of one verification from a random generator that the kernel never sees.

Captured calls with their real values come first; then small neighbours of them for gradients and oddities; then shapes
that nobody could have seen before.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.arrays import storage
from autoresearch_common.workload import Workload
from autoresearch_lab.catalog import Target
from autoresearch_lab.verify.axes import levels_of
from autoresearch_lab.verify.cases import (
    DIVERGED,
    ROWS,
    SECOND_PATTERN,
    Case,
    CaseStep,
    Contents,
    elements,
    exchanged,
    expanded,
    main_dtype,
    output_dtypes,
    rounded,
    shadow,
    unified,
    with_dtype,
)
from autoresearch_lab.verify.combinations import LARGEST, Combinations
from autoresearch_lab.verify.one_block import able_to_be_cut, cut_from_one_block
from autoresearch_lab.verify.unusual import sparse, with_few_cotangents
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs.calls import Mode

# Above this many elements a call is made with fewer contents: each costs the oracle seconds.
LARGE = 1 << 20
# Up to this many elements a step has shadows; beyond that where a gradient is a single number, which is a sum that may
# cancel: what its size is then says nothing about what its error can be.
SMALL, SHADOWS = 1 << 17, 2
# Most elements of a neighbour that stands in for a large captured call.
COMFORTABLE = 1 << 18
HELD_OUT = 4
# Kernels handle rows in blocks of up to so many, and what is left in another way; most such blocks of a call.
REMAINDERS, MOST_BLOCKS = 32, 8
# Where one array comes for two arguments: in a training, before other layers and behind some, and in an evaluation.
SAME: tuple[tuple[Mode, bool], ...] = (("plain", False), ("not a leaf", False), ("no_grad", False), ("plain", True))
KINDS = ("adversarial", "edge", "nonfinite", "typical")
# The share of usual values that are as where sequences are padded.
CHANCE_PADDED = 0.5
# Calls of a captured size with other scalars, of an optimizer.
OTHER_RATES = 3
# Calls with large weights, and by how much they are larger than usual.
WEIGHED, LARGE_WEIGHTS = 8, 256.0
# Steps that follow on what a step left: what is wrong in a state shows in the parameter only then.
ONWARD = 3
# More threads than a usual machine of a developer has cores; drawn from between these.
MORE_THREADS = (9, 17)
# Calls of a large size that are made to see whether they give the same bits; there is no time for more.
MANY_LARGE = 64


class Planner:
    """Makes the cases of one target. `rng` decides every value and every shape that is not captured. combined: with
    `combinations`, of which there are many."""

    def __init__(
        self, target: Target, workloads: WorkloadSet, rng: np.random.Generator, *, combined: bool = True
    ) -> None:
        self.target = target
        self.contract = target.contract
        self.oracle = target.oracle
        self.workloads = workloads
        self.rng = rng
        self.combined = combined
        order = [argument.name for argument in self.contract.args]
        self.captured = [_in_order(workload, order) for workload in workloads.workloads]
        self.grads = tuple(argument.name for argument in self.contract.args if argument.grad)
        updated = [each.name for each in self.contract.args if each.inplace]
        self._parameter = updated[0] if updated else None
        # Arguments that may be zero in most rows: all but an optimizer's parameter.
        self._often_zero = [
            each.name for each in self.contract.args if each.kind == "array" and each.name != self._parameter
        ]
        self._padded = getattr(target.oracle, "padded", None)
        self._known_shapes: dict[Hashable, list[tuple[int, ...]]] = {}

    def cases(self) -> list[Case]:
        """All cases, in the order in which they are run."""
        bases = self._distinct(self.captured)
        neighbours = [other for base in bases for other in self._neighbours(base)]
        largest = max(range(len(self.captured)), key=lambda number: elements(self.captured[number]))
        return [
            *(case for number, workload in enumerate(self.captured) for case in self._captured(number, workload)),
            *(self._large(largest) if self.combined else ()),
            *self._gradients(self._base(neighbours)),
            *self._odd(neighbours),
            *(self._combinations(neighbours) if self.combined else ()),
            *(self._rows() if self.combined else ()),
            *(self._weights() if self.combined and self._parameter else ()),
            *(self._same(neighbours) if self.combined else ()),
            *(self._together(neighbours) if self.combined and self.workloads.engine != "mlx" else ()),
            *self._held_out(neighbours),
        ]

    # One kind of case each.

    def _captured(self, number: int, workload: Workload) -> Iterator[Case]:
        """Real values three times (the memory around them filled differently the second time), then others in the same
        place, then the real ones with a few elements exchanged, which leaves sums and ends as they were. Where there
        are gradients, the real ones once more without and then others, as batches of an evaluation."""
        grad = tuple(spec["name"] for spec in w.arrays(workload) if spec["grad"] and spec["name"] in self.grads)
        if workload["sample"] is not None:
            arrays = self.workloads.inputs(workload, self.rng)
            values = {**arrays, **w.scalars(workload)}
            first = self._contents(workload, values, bool(grad), style="trainer", kind="sampled")
        else:
            first = self.draw(workload, "typical", bool(grad), style="trainer")
        repeats = [
            CaseStep(first),
            CaseStep(first, pattern=SECOND_PATTERN, judged=False),
            CaseStep(first, judged=False),
        ]
        others = [CaseStep(self.draw(workload, "typical", bool(grad)))]
        if elements(workload) <= LARGE:
            others.append(CaseStep(exchanged(first, self.rng)))
        yield self._case(f"captured/{number}", "accuracy", workload, [*repeats, *others], grad)
        if self.combined and self._parameter:  # rates and momenta change from step to step
            steps = [CaseStep(self._other_scalars(workload), brief=True) for _ in range(OTHER_RATES)]
            yield self._case(f"captured/{number} other scalars", "combinations", workload, steps, ())
        if grad:
            about = "gradients switched off"
            evaluated = self._with_other_words(workload)
            drawn = [self.draw(evaluated, "typical", False)]
            if self._padded is not None:
                values = self._padded(self.oracle.inputs(evaluated, self.rng, "typical"), self.rng)
                drawn.append(self._contents(evaluated, values, False, style="random", kind="typical"))
            steps = [CaseStep(each, brief=True) for each in (first, *drawn)]
            yield self._case(f"captured/{number} {about}", "accuracy", workload, steps, (), mode="no_grad", about=about)

    def _large(self, number: int) -> Iterator[Case]:
        """What small calls are for, once more with the largest captured one, for a kernel may do otherwise from some
        size on: many calls at once and one after the other, and rare contents (not with CUDA, where captured calls are
        too large for that); and, of what a trainer compiles, one compiled."""
        workload = self.captured[number]
        if elements(workload) <= LARGEST:
            return
        contents = self.draw(workload, "typical", bool(self.grads))
        once, often = CaseStep(contents, brief=True), [CaseStep(contents, judged=False, repeats=MANY_LARGE)]
        case = partial(self._large_case, number, workload)
        # MLX has no parameters that hold a gradient, and its step is compiled as a whole.
        engine, on_cpu = self.workloads.engine, self.workloads.engine == "cpu"
        if engine != "cuda":
            yield case("many", "many calls", often)
            rare = [sparse(contents, self._often_zero, self.rng), self.draw(workload, "nonfinite", bool(self.grads))]
            if any(each.ndim > 1 for each in contents.cotangents or ()):
                rare.append(with_few_cotangents(contents, self.rng))
            about = "most rows are zero, then some numbers are not finite, then most cotangents are zero"
            held = on_cpu and bool(self.grads)
            about = f"gradients are held from before; {about}" if held else about
            yield case("rare", about, [CaseStep(each, brief=True) for each in rare], held=held)
        if engine != "cuda" and self.grads:
            yield case("many evaluations", "many calls, gradients switched off", often, grad=(), mode="no_grad")
        if on_cpu:
            for threads in (1, int(self.rng.integers(*MORE_THREADS))):
                words = f"{threads} thread{'s' * (threads > 1)}"
                yield case(words, words, [once], threads=threads)
        if on_cpu and self.grads:
            yield case("many compiled", "many calls, compiled", often, compiled=True)
        if self.grads:
            yield case("compiled", "compiled", [replace(once, layout="inner transposed")], compiled=True)

    def _large_case(
        self,
        number: int,
        workload: Workload,
        name: str,
        about: str,
        steps: list[CaseStep],
        grad: tuple[str, ...] | None = None,
        **more: Any,
    ) -> Case:
        """grad: all that have one where None."""
        wanted = self.grads if grad is None else grad
        return self._case(f"captured/{number} {name}", "combinations", workload, steps, wanted, about=about, **more)

    def _gradients(self, base: Workload) -> list[Case]:
        """Backward twice, every argument alone, cotangents as a sum or a transposition hands them on; and forward with
        gradients switched off. The first case is the one whose operators are counted."""
        cases = [
            self._case(
                "gradients/all" if self.grads else "small/0",
                "gradients" if self.grads else "odd",
                base,
                [CaseStep(self.draw(base, "typical", bool(self.grads)))],
                self.grads,
                spied=True,
            )
        ]
        if not self.grads:
            return cases
        twice = CaseStep(self.draw(base, "typical", True, style="power"), again=True)
        cases.append(self._case("gradients/twice", "gradients", base, [twice], self.grads))
        if len(self.grads) > 1:
            for name in self.grads:
                step = CaseStep(self.draw(base, "typical", True))
                cases.append(self._case(f"gradients/only {name}", "gradients", base, [step], (name,)))
        transposed = CaseStep(self.draw(base, "typical", True), layout="transposed")
        expanded = CaseStep(self.draw(base, "typical", True, style="equal"), layout="expanded")
        cases.append(self._case("gradients/cotangents", "gradients", base, [transposed, expanded], self.grads))
        diverged = [CaseStep(self._diverged(base, value)) for value in (np.nan, np.inf)]
        cases.append(self._case("gradients/diverged", "gradients", base, diverged, self.grads))
        plain = [CaseStep(self.draw(base, "typical", False))]
        cases.append(self._case("gradients/switched off", "gradients", base, plain, (), mode="no_grad"))
        return cases

    def _odd(self, neighbours: list[Workload]) -> list[Case]:
        """Every odd neighbour with each kind of values; a few of them in the other dtypes."""
        cases = []
        for number, workload in enumerate(neighbours):
            steps = [CaseStep(self.draw(workload, kind, bool(self.grads))) for kind in KINDS]
            cases.append(self._case(f"odd/{number}", "odd", workload, steps, self.grads))
        for dtype in self._other_dtypes():
            chosen = self.rng.permutation(len(neighbours))[:3]
            for number in chosen:
                workload = with_dtype(neighbours[number], dtype)
                steps = [CaseStep(self.draw(workload, kind, bool(self.grads))) for kind in ("typical", *KINDS[:3])]
                cases.append(self._case(f"odd/{number} {dtype}", "odd", workload, steps, self.grads))
        return cases

    def _combinations(self, neighbours: list[Workload]) -> Iterator[Case]:
        """Calls that are unusual in several ways at once."""
        beyond = self._ordered(self.oracle.beyond(self.captured[0], self.rng))
        drawn = Combinations(
            self.contract, partial(self.draw, padded=True), self._case, self.rng,
            contexts=self.workloads.engine != "mlx", most=getattr(self.oracle, "MOST", {}),
            alike=getattr(self.oracle, "alike", None),
        )  # fmt: skip
        far = [beyond[place] for place in self.rng.permutation(len(beyond))]
        return drawn.cases(neighbours, far, self._other_dtypes())

    def _rows(self) -> Iterator[Case]:
        """Small calls whose numbers of rows leave every remainder that a block of rows may have, and whose widths leave
        every remainder that a vector may."""
        for remainder, width in enumerate(self.rng.permutation(REMAINDERS) + 1):
            count = max(2, remainder + REMAINDERS * int(self.rng.integers(MOST_BLOCKS)))
            (workload,) = self._ordered([self.oracle.with_rows(self.captured[0], count, int(width))])
            steps = [CaseStep(self.draw(workload, "typical", bool(self.grads), padded=True), brief=True)]
            yield self._case(f"{ROWS}{count} {width}", "combinations", workload, steps, self.grads)

    def _weights(self) -> Iterator[Case]:
        """An optimizer's parameter that is large beside its step, and one that has nothing else: no gradient and no
        state. There its decay shows, which is otherwise lost in the error of a step. Likewise the last of its states,
        the second moment, alone with it; and steps on what the ones before left. In cases of their own, for how wrong a
        result may be depends on the other calls of a case."""
        (workload,) = self._ordered([self.oracle.with_rows(self.captured[0], REMAINDERS, REMAINDERS)])
        updated = [each.name for each in self.contract.args if each.inplace]
        left_of: dict[str, list[str | None]] = {
            "large weights": [each.name for each in self.contract.args],
            "weights alone": [self._parameter],
            f"weights and {updated[-1]} alone": [self._parameter, updated[-1]],
        }
        for about, left in left_of.items():
            steps = []
            for contents in self._one_scalar_at_a_time(workload, WEIGHED):
                arrays = {
                    name: array * (array.dtype.type(LARGE_WEIGHTS) if name == self._parameter else 1)
                    if name in left
                    else np.zeros_like(array)
                    for name, array in contents.arrays.items()
                }
                steps.append(CaseStep(replace(contents, arrays=arrays)))
            yield self._case(f"weights/{about}", "combinations", workload, steps, (), about=about)
        steps = [CaseStep(self._other_scalars(workload)) for _ in range(WEIGHED)]
        yield self._case(
            "weights/onward", "combinations", workload, steps, (), onward=ONWARD, updated=tuple(updated),
            about=f"{ONWARD} steps without a gradient follow",
        )  # fmt: skip

    def _other_scalars(self, workload: Workload) -> Contents:
        """Usual contents of an optimizer's call, with any of the values that its scalars may have."""
        levels = self._levels()
        drawn = {name: values[self.rng.integers(len(values))] for name, values in levels.items()}
        return self.draw(w.variant(workload, **drawn), "typical", False)

    def _levels(self) -> dict[str, list[w.Scalar]]:
        """The values that each scalar may have, some of them drawn."""
        return {each.name: levels_of(each, self.rng) for each in self.contract.args if each.values}

    def _one_scalar_at_a_time(self, workload: Workload, count: int) -> Iterator[Contents]:
        """The same for calls one after the other, each with another value of one scalar, as a schedule moves one while
        the others stay: what was kept for these must not come again."""
        levels = self._levels()
        names = [str(name) for name in self.rng.permutation(list(levels))]
        now = {name: values[self.rng.integers(len(values))] for name, values in levels.items()}
        for number in range(count):
            name = names[number % len(names)]
            others = [value for value in levels[name] if value != now[name]]
            if number and others:
                now[name] = others[self.rng.integers(len(others))]
            yield self.draw(w.variant(workload, **now), "typical", False)

    def _with_other_words(self, workload: Workload) -> Workload:
        """The call with another value of every argument that is a word, as an evaluation wants other sums."""
        now = w.scalars(workload)
        words = [each for each in self.contract.args if each.values and isinstance(each.values[0], str)]
        others = {each.name: [value for value in each.values if value != now[each.name]] for each in words}
        return w.variant(workload, **{name: str(self.rng.choice(values)) for name, values in others.items() if values})

    def _same(self, neighbours: list[Workload]) -> Iterator[Case]:
        """Calls with one array for two arguments, as the first layer makes one: the stream and its start. Small ones in
        several contexts, and in another dtype; a captured one, and two of far sizes."""
        beyond = self._ordered(self.oracle.beyond(self.captured[0], self.rng))
        for one, other in itertools.combinations(self.grads, 2):
            able = [each for each in neighbours if elements(each) <= LARGEST and _alike(each, one, other)]
            captured = [each for each in self.captured if _alike(each, one, other)][:1]
            alike = [each for each in beyond if _alike(each, one, other)]
            far = [alike[place] for place in self.rng.permutation(len(alike))[:2]]
            if not able:
                continue
            workload = able[self.rng.integers(len(able))]
            # MLX has no leaves.
            modes = [each for each in SAME if each[0] != "not a leaf" or self.workloads.engine != "mlx"]
            calls: list[tuple[str, Workload, Mode, bool]] = [
                (f"{mode}{' compiled' if compiled else ''}", workload, mode, compiled) for mode, compiled in modes
            ]
            calls += [(dtype, with_dtype(workload, dtype), "plain", False) for dtype in self._other_dtypes()]
            calls += [("captured", each, "plain", False) for each in captured]
            calls += [(f"far {number}", each, "plain", False) for number, each in enumerate(far)]
            for words, call, mode, compiled in calls:
                wanted = () if mode == "no_grad" else tuple(name for name in self.grads if name != other)
                steps = [CaseStep(self.draw(call, "typical", bool(wanted))) for _ in range(2)]
                yield self._case(
                    f"same/{one} {other} {words}", "combinations", call, steps if call is workload else steps[:1],
                    wanted, same=(one, other), mode=mode, compiled=compiled, about=f"{one} and {other} are one array",
                )  # fmt: skip

    def _together(self, neighbours: list[Workload]) -> Iterator[Case]:
        """Small calls with arrays of one form cut from one block, in a drawn order: as one product makes queries, keys
        and values, and one table holds both kinds of angles. Not of what is updated in place."""
        if self._parameter:
            return
        arrays = [each.name for each in self.contract.args if each.kind == "array"]
        found: dict[tuple[str, ...], list[Workload]] = {}
        for workload in neighbours:
            for names in able_to_be_cut(workload, arrays):
                found.setdefault(names, []).append(workload)
        for names, able in found.items():
            order = tuple(str(name) for name in self.rng.permutation(names))
            for mode, grad in (("plain", self.grads), ("no_grad", ())):
                order = order[::-1]
                workload = cut_from_one_block(able[self.rng.integers(len(able))], order, self.rng)
                steps = [CaseStep(self.draw(workload, "typical", bool(grad))) for _ in range(2)]
                about = f"{', '.join(order)} cut from one block"
                yield self._case(
                    f"together/{' '.join(names)} {mode}", "combinations", workload, steps, grad,
                    mode=mode, together=order, about=about,
                )  # fmt: skip

    def _held_out(self, neighbours: list[Workload]) -> list[Case]:
        """Neighbours of neighbours: their shapes depend on draws made just now."""
        cases = []
        others: list[str | None] = [*self._other_dtypes()] or [None]
        for number in range(HELD_OUT):
            step_off = neighbours[self.rng.integers(len(neighbours))]
            found = self._neighbours(step_off)
            workload = found[self.rng.integers(len(found))]
            # Three in the trainer's own dtype, one in another.
            dtype = others[self.rng.integers(len(others))] if number == HELD_OUT - 1 else None
            workload = with_dtype(workload, dtype) if dtype else workload
            steps = [CaseStep(self.draw(workload, kind, bool(self.grads))) for kind in ("typical", "adversarial")]
            cases.append(self._case(f"held_out/{number}", "held_out", workload, steps, self.grads))
        return cases

    # Workloads.

    def _neighbours(self, workload: Workload) -> list[Workload]:
        return self._ordered(self.oracle.neighbours(workload, self.rng))

    def _ordered(self, workloads: list[Workload]) -> list[Workload]:
        order = [argument.name for argument in self.contract.args]
        return [_in_order(workload, order) for workload in workloads]

    def _distinct(self, workloads: list[Workload]) -> list[Workload]:
        """One or two captured calls to take neighbours of: the first, and one that differs from it in dtype or rank."""
        first = workloads[0]

        def kind(workload: Workload) -> list[tuple[str, int]]:
            return [(spec["dtype"], len(spec["shape"])) for spec in w.arrays(workload)]

        others = [workload for workload in workloads if kind(workload) != kind(first)]
        return [first, others[0]] if others else [first]

    def _base(self, neighbours: list[Workload]) -> Workload:
        """The captured call, for cases that need no particular shape; where it is too large, the largest contiguous
        neighbour of middling size."""
        if elements(self.captured[0]) <= LARGE:
            return self.captured[0]
        plain = [workload for workload in neighbours if all(map(w.is_contiguous, w.arrays(workload)))] or neighbours
        return max((other for other in plain if elements(other) <= COMFORTABLE), key=elements, default=plain[0])

    def _other_dtypes(self) -> list[str]:
        seen = {main_dtype(workload) for workload in self.captured}
        if seen == {None}:
            return []
        return [dtype for dtype in self.contract.tolerance.floor if dtype not in seen]

    # Values.

    def _case(
        self,
        name: str,
        group: str,
        workload: Workload,
        steps: list[CaseStep],
        grad: tuple[str, ...],
        **more: Any,
    ) -> Case:
        dtypes = output_dtypes(self.contract, workload["args"])
        same = more.get("same", ())
        if group == "combinations":
            steps = [
                replace(
                    step,
                    contents=expanded(step.contents, workload["args"]),
                    as_arrays=more.get("compiled", False) or number % 2 == 1,
                )
                for number, step in enumerate(steps)
            ]
        if same:
            steps = [replace(step, contents=unified(step.contents, same)) for step in steps]
        single = any(spec["name"] in grad and not spec["shape"] for spec in w.arrays(workload))
        if single or elements(workload) <= SMALL:
            steps = [self._with_shadows(step, workload, same) for step in steps]
        return Case(name, group, workload, tuple(steps), dtypes, grad, **more)

    def _with_shadows(self, step: CaseStep, workload: Workload, same: tuple[str, ...]) -> CaseStep:
        if not step.judged:
            return step
        drawn = (shadow(step.contents, self.rng) for _ in range(1 if step.brief else SHADOWS))
        shadows = tuple(expanded(each, workload["args"]) for each in drawn)
        return replace(step, shadows=tuple(unified(each, same) for each in shadows) if same else shadows)

    def _diverged(self, workload: Workload, value: float) -> Contents:
        """Usual values with cotangents that are this throughout."""
        contents = self.draw(workload, "typical", True)
        cotangents = tuple(np.full_like(each, value) for each in contents.cotangents or ())
        return Contents(contents.arrays, contents.scalars, cotangents, DIVERGED)

    def draw(
        self, workload: Workload, kind: str, cotangents: bool, style: str = "random", *, padded: bool = False
    ) -> Contents:
        """Values of a kind. padded: of a target whose oracle knows that, usual ones may be as where sequences are."""
        values = self.oracle.inputs(workload, self.rng, kind)
        if padded and kind == "typical" and self._padded is not None and self.rng.random() < CHANCE_PADDED:
            values = self._padded(values, self.rng)
        return self._contents(workload, values, cotangents, style=style, kind=kind)

    def _contents(
        self, workload: Workload, values: Mapping[str, Any], cotangents: bool, *, kind: str, style: str
    ) -> Contents:
        arrays, scalars = rounded(values, workload["args"])
        contents = Contents(arrays, scalars, kind=kind)
        return self._with_cotangents(workload, contents, style) if cotangents else contents

    def _with_cotangents(self, workload: Workload, contents: Contents, style: str) -> Contents:
        """Cotangents of the outputs' shapes and dtypes.

        style: "random"; "equal" = all elements the same, "equal first" and "equal last" those along the first or the
        last axis; "trainer" = as the trainer's own backward starts, 1 for a
        loss, and random elsewhere; "power" = all the same power of two, which a kernel may treat specially, as 1.
        """
        dtypes = output_dtypes(self.contract, workload["args"])
        cotangents = []
        for shape, dtype in zip(self._output_shapes(contents), dtypes, strict=True):
            if style == "power":
                draw = np.full(shape, self.rng.choice([-4.0, -0.5, 0.25, 2.0]))
            elif style == "trainer" and not shape:
                draw = np.ones(shape)
            elif style == "equal" or not shape:
                draw = np.full(shape, self.rng.uniform(0.4, 2.5) * self.rng.choice([-1.0, 1.0]))
            elif style in ("equal first", "equal last"):
                axis = 0 if style == "equal first" else -1
                line = self.rng.standard_normal(shape).take([0] if shape[axis] else [], axis=axis)
                draw = np.broadcast_to(line, shape)
            else:
                draw = self.rng.standard_normal(shape)
            cotangents.append(np.asarray(draw).astype(storage(dtype)))
        return Contents(contents.arrays, contents.scalars, tuple(cotangents), contents.kind)

    def _output_shapes(self, contents: Contents) -> list[tuple[int, ...]]:
        """Of the outputs; the oracle is asked once for arguments of these shapes."""
        key = (*(array.shape for array in contents.arrays.values()), *contents.scalars.items())
        if key not in self._known_shapes:
            self._known_shapes[key] = [np.shape(value) for value in self.oracle.forward(contents.widened())]
        return self._known_shapes[key]


def _alike(workload: Workload, one: str, other: str) -> bool:
    """Whether a call is in row-major order, and has these two arguments of one form."""
    first, second = (cast(w.ArraySpec, w.argument(workload, name)) for name in (one, other))
    alike = first["shape"] == second["shape"] and first["dtype"] == second["dtype"]
    return alike and min(first["shape"], default=0) > 1 and all(map(w.is_contiguous, w.arrays(workload)))


def _in_order(workload: Workload, order: list[str]) -> Workload:
    """The workload with its arguments in the order of the signature."""
    by_name = {spec["name"]: spec for spec in workload["args"]}
    found = workload.copy()
    found["args"] = [by_name[name] for name in order]
    return found
