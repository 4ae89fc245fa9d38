"""The calls that a verification makes, as data: which arguments, with which contents, in which order.

A case is one set of arguments at fixed addresses; its steps put contents into them and call the kernel. Values are held
in their storage dtype, so that oracle, baseline and candidate see the very same numbers.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoresearch_common.arrays import is_float, storage
from autoresearch_common.tolerance import rounding_rows
from autoresearch_common.workload import Scalar, Spec, Workload
from autoresearch_common.workload import arrays as array_specs
from autoresearch_common.workload import size as elements_of
from autoresearch_lab.catalog import Contract
from autoresearch_trainer.jobs.calls import Mode

# Largest relative change of a value in a shadow: one unit in the last place of bfloat16. In the finer types it is many
# units, so that every rounding on the way is drawn anew.
JITTER = 2.0**-7
# What becomes of the elements of an array of few that has to change.
FEW_GROW, FEW_MOVE = 1.5, 0.25
# What the names of the small calls of many rows and widths begin with.
ROWS = "rows/"
# The checks that judge cases, in their order.
GROUPS = ("accuracy", "gradients", "odd", "combinations", "held_out")
# Usual values with cotangents that are not finite. What comes of each element is left open (0 times NaN); that it shows
# somewhere in the gradient is not.
DIVERGED = "diverged"
# Kinds of values on which the error of one call is a matter of luck.
ROUGH = ("edge", "adversarial", "scaled")
# What every byte of fresh memory holds while a step runs, and another filling to compare with. As a float the first is
# -1.7e38 (float32, bfloat16) or NaN (float16), as a class number nonsense.
PATTERN, SECOND_PATTERN = 0xFE, 0x7F


_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Contents:
    """Values of all arguments, and cotangents for the outputs where gradients are asked for.

    arrays: {argument: storage dtype, the argument's shape}; scalars: {argument: value}. kind: how they were made.
    number: tells these contents from all others that this process made; steps with the same contents share it.
    """

    arrays: Mapping[str, np.ndarray]
    scalars: Mapping[str, Scalar]
    cotangents: tuple[np.ndarray, ...] | None = None
    kind: str = "typical"
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def prefix(self) -> str:
        """What the names of its arrays in a file of inputs begin with."""
        return f"{self.number}/"

    @property
    def cotangents_prefix(self) -> str:
        return f"{self.prefix}ct/"

    def widened(self) -> dict[str, np.ndarray | Scalar]:
        """As an oracle takes them: floating values as float64, the rest as it is."""
        return {**{name: widen(array) for name, array in self.arrays.items()}, **self.scalars}


@dataclass(frozen=True)
class CaseStep:
    """One call. `layout` of the cotangents; `again` = run backward twice; `judged` = compared with the oracle;
    `repeats` = how often it is made once more, to see whether it always gives the same; `brief` = one of many of its
    kind, which has a single shadow; `as_arrays` = scalars that this framework's trainer hands over as arrays are some.

    `shadows`: nearly the same contents. Only the baseline computes them: its error on one call may be small by luck,
    and a candidate is not held to luck.
    """

    contents: Contents
    shadows: tuple[Contents, ...] = ()
    layout: str = "contiguous"
    again: bool = False
    pattern: int = PATTERN
    judged: bool = True
    repeats: int = 0
    brief: bool = False
    as_arrays: bool = False


@dataclass(frozen=True)
class Case:
    """Some calls on one set of arguments.

    group: the check that judges it first, one of GROUPS. dtypes: of the outputs. grad: arguments that get gradients.
    spied: the operators that the framework runs are counted. mode, compiled: the context of the call, for a candidate.
    leaves: arguments that want a gradient, as parameters do in an evaluation, though none is asked for. held: those
    that want one hold one already; gathered: as a trainer has it, they gather it, or hold the one that is handed in.
    threads: for the candidate, 0 for as many as there are cores. same: two arguments that are one array, whose
    gradients are one, too. together: arguments that lie in one block. onward: so many steps of an optimizer follow, on
    what the call left and without a gradient; a result is what the last of them left, updated: in this order. about:
    what is unusual about it, in words. layouts: (axis, value) of its arrays in a combination."""

    id: str
    group: str
    workload: Workload
    steps: tuple[CaseStep, ...]
    dtypes: tuple[str, ...]
    grad: tuple[str, ...] = ()
    spied: bool = False
    mode: Mode = "plain"
    compiled: bool = False
    leaves: tuple[str, ...] = ()
    held: bool = False
    gathered: bool = False
    threads: int = 0
    same: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    onward: int = 0
    updated: tuple[str, ...] = ()
    about: str = ""
    layouts: tuple[tuple[str, str], ...] = ()

    @property
    def specs(self) -> list[Spec]:
        return self.workload["args"]

    def rows(self, shape: tuple[int, ...]) -> int:
        """How many rows round by themselves in a result of this shape."""
        return rounding_rows(shape, self._data(shape))

    def rows_of_data(self) -> int:
        """Rows of the first floating argument, at least 1."""
        return max(1, math.prod(self._data()[:-1]))

    def _data(self, default: Sequence[int] = ()) -> Sequence[int]:
        """Shape of the first floating argument."""
        return next((spec["shape"] for spec in array_specs(self.workload) if "float" in spec["dtype"]), default)

    def shapes(self) -> str:
        """For people: the array arguments in one line, such as "x bfloat16 (8, 256)", and what is unusual."""
        arrays = [f"{s['name']} {s['dtype']} {tuple(s['shape'])}" for s in array_specs(self.workload)]
        return ", ".join(arrays) + (f"; {self.about}" if self.about else "")


def shadow(contents: Contents, rng: np.random.Generator) -> Contents:
    """Every floating value changed by less than a hundredth of itself."""
    arrays = {name: _jittered(array, rng) for name, array in contents.arrays.items()}
    cotangents = contents.cotangents
    if cotangents is not None:
        cotangents = tuple(_jittered(cotangent, rng) for cotangent in cotangents)
    return Contents(arrays, contents.scalars, cotangents, contents.kind)


def exchanged(contents: Contents, rng: np.random.Generator, *, alone: str | None = None) -> Contents:
    """The same values and cotangents, with a few interior elements of each array (or of that one alone) in each other's
    place: sums and ends are as they were. One alone that has too few elements for that has others."""
    arrays = {}
    for name, array in contents.arrays.items():
        flat = array.reshape(-1).copy()
        if alone in (None, name) and flat.size >= 5:
            count = max(2, min(32, flat.size // 4)) // 2 * 2
            places = 1 + rng.choice(flat.size - 2, size=count, replace=False)
            flat[places] = flat[places[::-1]]
        elif alone == name and is_float(flat):
            flat = (flat.astype(np.float64) * FEW_GROW + FEW_MOVE).astype(flat.dtype)
        arrays[name] = flat.reshape(array.shape)
    return Contents(arrays, contents.scalars, contents.cotangents, "exchanged")


def unified(contents: Contents, same: tuple[str, ...]) -> Contents:
    """The same, two arguments that are one array holding the values of the first."""
    one, other = same
    arrays = {**contents.arrays, other: contents.arrays[one]}
    return Contents(arrays, contents.scalars, contents.cotangents, contents.kind)


def expanded(contents: Contents, specs: list[Spec]) -> Contents:
    """The same, arrays that were expanded along their first axis holding what they have there first; the very same
    where there are none."""
    names = [spec["name"] for spec in specs if spec["kind"] == "array" and spec["shape"] and spec["strides"][0] == 0]
    if not names:
        return contents
    arrays = {
        name: np.ascontiguousarray(np.broadcast_to(array[:1], array.shape)) if name in names else array
        for name, array in contents.arrays.items()
    }
    return Contents(arrays, contents.scalars, contents.cotangents, contents.kind)


def _jittered(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not is_float(array):
        return array
    with np.errstate(all="ignore"):
        moved = array.astype(np.float64) * (1.0 + JITTER * rng.uniform(-1.0, 1.0, size=array.shape))
        return moved.astype(array.dtype)


def widen(array: np.ndarray) -> np.ndarray:
    """Floating values as float64, whole numbers and booleans unchanged."""
    return array.astype(np.float64) if is_float(array) else array


def rounded(values: Mapping[str, Any], specs: list[Spec]) -> tuple[dict[str, np.ndarray], dict[str, Scalar]]:
    """(arrays in their storage dtype and shape, scalars) from an oracle's float64 inputs.

    An axis of stride 0 was expanded from one element: every place gets the values of the first.
    """
    arrays, scalars = {}, {}
    for spec in specs:
        name = spec["name"]
        if spec["kind"] == "scalar":
            scalars[name] = values.get(name, spec["value"])
            continue
        with np.errstate(all="ignore"):
            array = np.asarray(values[name]).astype(storage(spec["dtype"])).reshape(spec["shape"])
        for axis, (size, stride) in enumerate(zip(spec["shape"], spec["strides"], strict=True)):
            if stride == 0 and size > 1:
                array = np.broadcast_to(np.take(array, [0], axis=axis), array.shape)
        arrays[name] = np.ascontiguousarray(array).reshape(spec["shape"])
    return arrays, {name: _plain(value) for name, value in scalars.items()}


def output_dtypes(contract: Contract, specs: list[Spec]) -> tuple[str, ...]:
    """The dtype of each output for arguments of these dtypes."""
    by_name = {spec["name"]: spec["dtype"] for spec in specs if spec["kind"] == "array"}
    names = (output.dtype for output in contract.outputs)
    return tuple(by_name[name.removeprefix("like:")] if name.startswith("like:") else name for name in names)


def with_dtype(workload: Workload, dtype: str) -> Workload:
    """The workload with its main dtype (that of the first floating argument) replaced wherever it occurs."""
    main = main_dtype(workload)
    changed = copy.deepcopy(workload)
    for spec in array_specs(changed):
        if spec["dtype"] == main:
            spec["dtype"] = dtype
    return changed


def main_dtype(workload: Workload) -> str | None:
    """Dtype of the first floating-point array argument; None where there is none."""
    return next((spec["dtype"] for spec in array_specs(workload) if "float" in spec["dtype"]), None)


def elements(workload: Workload) -> int:
    """Number of elements of all array arguments together."""
    return sum(elements_of(spec) for spec in array_specs(workload))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value
