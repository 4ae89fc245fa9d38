"""Arguments that are cut from one block of memory, as queries, keys and values are that one product makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from autoresearch_common import workload as w
from autoresearch_common.workload import Workload
from autoresearch_lab.verify.cases import elements
from autoresearch_lab.verify.combinations import LARGEST

# Of a block that several arguments are cut from, so many places along the axis at most lie between two of them.
MOST_BETWEEN = 2


def able_to_be_cut(workload: Workload, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Those arguments of a small call in row-major order that have one dtype and, but for one axis, one shape."""
    plain = elements(workload) <= LARGEST and all(map(w.is_contiguous, w.arrays(workload)))
    if not plain or min(w.arrays(workload)[0]["shape"], default=0) < 2:
        return []
    sets: list[list[str]] = []
    for name in names:
        for one in sets:
            if _axes_of_a_cut(_specs(workload, [*one, name])):
                one.append(name)
                break
        else:
            sets.append([name])
    return [tuple(one) for one in sets if len(one) > 1]


def _specs(workload: Workload, names: Sequence[str]) -> list[w.ArraySpec]:
    return [cast(w.ArraySpec, w.argument(workload, name)) for name in names]


def _axes_of_a_cut(specs: Sequence[w.ArraySpec]) -> list[int]:
    """The axes along which arrays may follow each other in one block: all others are alike. -1 for numbers."""
    if len({(spec["dtype"], len(spec["shape"])) for spec in specs}) > 1:
        return []
    shapes = [spec["shape"] for spec in specs]
    if not shapes[0]:
        return [-1]
    others = [{(*shape[:axis], *shape[axis + 1 :]) for shape in shapes} for axis in range(len(shapes[0]))]
    return [axis for axis, rest in enumerate(others) if len(rest) == 1 and all(map(min, shapes))]


def cut_from_one_block(workload: Workload, names: Sequence[str], rng: np.random.Generator) -> Workload:
    """The same with these arguments behind each other in one block, along an axis that is drawn, often with something
    else between them; strides and offsets are in the block."""
    cut = w.variant(workload)
    specs = _specs(cut, names)
    axis = int(rng.choice(_axes_of_a_cut(specs)))
    ends = np.cumsum([(spec["shape"][axis] if axis >= 0 else 1) + rng.integers(MOST_BETWEEN + 1) for spec in specs])
    for spec, begin in zip(specs, [0, *ends.tolist()], strict=False):
        if axis >= 0:
            block = list(spec["shape"])
            block[axis] = int(ends[-1])
            spec["strides"] = w.contiguous(block)
        spec["offset"] = begin * (spec["strides"][axis] if axis >= 0 else 1)
    return cut
