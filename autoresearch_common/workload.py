"""Workloads as plain data, and the random arrays that fill them: what the oracles in `kernels/*/oracle.py` share.

A workload is one call of a target, a spec one of its arguments. All arrays made here are float64 (or int64) and
contiguous; the caller rounds them to the spec's dtype and lays them out with the spec's strides.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypeAlias, cast

import numpy as np
from typing_extensions import TypedDict

Scalar: TypeAlias = bool | int | float | str


class ArraySpec(TypedDict):
    """An array argument. dtype: one of ITEMSIZE; strides in elements; grad: the caller needs its gradient. offset: of
    its first element in the memory behind it, in elements."""

    name: str
    kind: Literal["array"]
    dtype: str
    shape: list[int]
    strides: list[int]
    grad: bool
    offset: NotRequired[int]


class ScalarSpec(TypedDict):
    """An argument that is a plain value."""

    name: str
    kind: Literal["scalar"]
    value: Scalar


Spec: TypeAlias = ArraySpec | ScalarSpec


class Sample(TypedDict):
    """Where real values are: tensors `<prefix><argument>` in `file`, which has no folder."""

    file: str
    prefix: str


class Workload(TypedDict):
    """One call of a target. calls_per_step: how often an optimizer step makes it; 0: never, or before the first one.
    sample: None where no real values were kept."""

    target: str
    args: list[Spec]
    phase: Literal["forward", "optimizer"]
    calls_per_step: float
    sample: Sample | None


class CapturedWorkload(Workload):
    """One call as the trainer makes it; `id` tells it from the target's others."""

    id: str


ITEMSIZE = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "int32": 4, "bool": 1}
# Largest magnitude used for "huge" values. Squares must stay finite in float32 for the types that share its exponent
# range, and in float16 a sum of a few must stay below 65504.
HUGE = {"float64": 1e15, "float32": 1e15, "bfloat16": 1e15, "float16": 1.5e4}
# Below the square root of the smallest normal number, and below the smallest normal number itself.
TINY = {"float64": 1e-21, "float32": 1e-21, "bfloat16": 1e-21, "float16": 2e-4}
DENORMAL = {"float64": 1e-39, "float32": 1e-39, "bfloat16": 1e-39, "float16": 2e-6}


def check_spec(spec: Spec) -> Spec:
    """Raises ValueError for an array of a dtype that nobody knows."""
    if spec["kind"] == "array" and spec["dtype"] not in ITEMSIZE:
        raise ValueError(f"argument {spec['name']} has dtype {spec['dtype']}")
    return spec


def checked(call: CapturedWorkload) -> CapturedWorkload:
    """The call. Raises ValueError where it cannot be one: a dtype, a count or a file's name that is none."""
    for spec in call["args"]:
        check_spec(spec)
    if call["calls_per_step"] < 0:
        raise ValueError(f"{call['id']}: calls_per_step is negative")
    if call["sample"] is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", call["sample"]["file"]):
        raise ValueError(f"{call['id']}: sample.file is no file's name: {call['sample']['file']}")
    return call


def argument(workload: Workload, name: str) -> Spec:
    """The spec of one argument. Raises KeyError if the workload has none of that name."""
    for spec in workload["args"]:
        if spec["name"] == name:
            return spec
    raise KeyError(f"workload of {workload.get('target')!r} has no argument {name!r}")


class HasArguments(TypedDict):
    """Anything that describes a call."""

    args: list[Spec]


def arrays(workload: HasArguments) -> list[ArraySpec]:
    """The specs of all array arguments, in their order."""
    return [spec for spec in workload["args"] if spec["kind"] == "array"]


def scalars(workload: Workload) -> dict[str, Scalar]:
    """Values of all scalar arguments, by name."""
    return {spec["name"]: spec["value"] for spec in workload["args"] if spec["kind"] == "scalar"}


def half_steps(rng: np.random.Generator) -> int:
    """A size of 48 to 1,008 that is an odd multiple, three or more, of 16 or a larger power of two: whoever takes
    twice as many numbers at once has half a step left."""
    return odd_multiple(1 << int(rng.integers(4, 9)), 1024, rng)


def odd_multiple(step: int, below: int, rng: np.random.Generator) -> int:
    """Three steps or more, an odd number of them."""
    return step * int(2 * rng.integers(1, below // (2 * step)) + 1)


def size(spec: ArraySpec) -> int:
    """Number of elements."""
    return math.prod(spec["shape"])


def nbytes(workload: Workload, *names: str) -> int:
    """Bytes of the named array arguments together."""
    specs = [cast(ArraySpec, argument(workload, name)) for name in names]
    return sum(size(spec) * ITEMSIZE[spec["dtype"]] for spec in specs)


def contiguous(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(1, shape[axis + 1])
    return strides


def is_contiguous(spec: ArraySpec) -> bool:
    """Whether the strides are row-major, as far as an axis has more than one element."""
    steps = zip(spec["shape"], spec["strides"], contiguous(spec["shape"]), strict=True)
    return all(size <= 1 or stride == row_major for size, stride, row_major in steps)


def transposed(shape: Sequence[int], first: int = 1, second: int = 2) -> list[int]:
    """Strides of an array stored with two axes exchanged: a (B,T,H,D) view of a (B,H,T,D) buffer by default."""
    stored = list(shape)
    stored[first], stored[second] = stored[second], stored[first]
    strides = contiguous(stored)
    strides[first], strides[second] = strides[second], strides[first]
    return strides


def sliced(shape: Sequence[int], factor: int = 2, axis: int = -1) -> list[int]:
    """Strides of a slice of a buffer that is `factor` times longer along `axis`, as a split of a wider array gives."""
    stored = list(shape)
    stored[axis] *= factor
    return contiguous(stored)


def variant(workload: Workload, **changes: Any) -> Workload:
    """A copy with some arguments changed: a shape (contiguous), a pair (shape, strides), or a scalar's new value.

    The copy has no id, sample or count of its own: it was not captured.
    """
    copied = {key: copy.deepcopy(value) for key, value in workload.items() if key in ("target", "args", "phase")}
    result = cast(Workload, {**copied, "calls_per_step": 0.0, "sample": None})
    for name, change in changes.items():
        spec = argument(result, name)
        if spec["kind"] == "scalar":
            spec["value"] = change
        elif len(change) == 2 and isinstance(change[0], Sequence):
            spec["shape"], spec["strides"] = list(change[0]), list(change[1])
        else:
            spec["shape"], spec["strides"] = list(change), contiguous(change)
    return result


def normal(spec: ArraySpec, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """Independent normal values."""
    return np.asarray(rng.standard_normal(spec["shape"])) * scale


def edge(spec: ArraySpec, rng: np.random.Generator, limits: Mapping[str, float] = HUGE) -> np.ndarray:
    """One degenerate pattern per row (last axis), in turn from a random start, so that few rows still see most of them.

    Zeros; ones; one huge element among normal ones; far below 1; below the normal range; all large with alternating
    signs; one negative constant; one element alone.
    """
    dtype = spec["dtype"]
    width = spec["shape"][-1] if spec["shape"] else 1
    values = rng.standard_normal((size(spec) // max(1, width), width))
    columns = np.arange(width)
    patterns: tuple[Callable[[np.ndarray], np.ndarray | float], ...] = (
        lambda rows: 0.0,
        lambda rows: 1.0,
        lambda rows: np.where(columns == rng.integers(width), limits[dtype], rows),
        lambda rows: rows * TINY[dtype],
        lambda rows: rows * DENORMAL[dtype],
        lambda rows: np.where(columns % 2 == 0, 1.0, -1.0) * math.sqrt(limits[dtype]),
        lambda rows: -3.0,
        lambda rows: np.where(columns == rng.integers(width), rows, 0.0),
    )
    start = int(rng.integers(len(patterns)))
    for number, pattern in enumerate(patterns):
        rows = values[(number - start) % len(patterns) :: len(patterns)]
        rows[...] = pattern(rows)
    return values.reshape(spec["shape"])


def adversarial(spec: ArraySpec, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """Heavy-tailed values whose size depends on their position, with rows whose sums cancel.

    Cubed normals have tails that an average over the wrong elements does not survive; every row and column has its own
    factor, so a skipped or exchanged one shows; in every fourth row neighbours cancel to one part in 1000.
    """
    width = spec["shape"][-1] if spec["shape"] else 1
    values = rng.standard_normal((size(spec) // max(1, width), width)) ** 3
    rows = np.arange(values.shape[0])[:, None]
    columns = np.arange(width)[None, :]
    values *= 2.0 ** (rows * 5 % 7 - 3.0) * (0.5 + (columns * 7 % 11) / 10.0)
    cancelling = values[3::4]
    pairs = width // 2 * 2
    cancelling[:, 1:pairs:2] = -cancelling[:, 0:pairs:2] * 1.001
    values *= spread
    if spec["dtype"] == "float16":
        np.clip(values, -HUGE["float16"], HUGE["float16"], out=values)
    return values.reshape(spec["shape"])


def poison(
    values: np.ndarray, rng: np.random.Generator, kinds: Sequence[float] = (math.nan, math.inf, -math.inf)
) -> np.ndarray:
    """A copy with one of `kinds` at a random place in about every eighth row (last axis), at least one row. In odd
    places a NaN has its sign bit set, as what a processor makes of 0 / 0 has."""
    result = values.copy()
    rows = result.reshape(-1, result.shape[-1] if result.ndim else 1)
    if rows.size == 0:
        return result
    chosen = rng.choice(len(rows), size=max(1, len(rows) // 8), replace=False)
    for number, row in enumerate(chosen):
        place, kind = rng.integers(rows.shape[1]), kinds[number % len(kinds)]
        rows[row, place] = math.copysign(kind, -1.0) if math.isnan(kind) and place % 2 else kind
    return result


def fill(spec: ArraySpec, rng: np.random.Generator, kind: str, limits: Mapping[str, float] = HUGE) -> np.ndarray:
    """Values of the given kind for an array without special structure.

    Raises ValueError for a kind other than typical, edge, adversarial and nonfinite.
    """
    if kind == "typical":
        return normal(spec, rng)
    if kind == "edge":
        return edge(spec, rng, limits)
    if kind == "adversarial":
        return adversarial(spec, rng)
    if kind == "nonfinite":
        return poison(normal(spec, rng), rng)
    raise ValueError(f"unknown kind of inputs {kind!r}; known: typical, edge, adversarial, nonfinite")
