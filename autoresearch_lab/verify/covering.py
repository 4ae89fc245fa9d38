"""Covering arrays: few points of a large space in which all values of any two axes meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np


def pairwise(axes: Mapping[str, Sequence[Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Points, each with one value per axis, such that every pair of values of two axes is in at least one.

    Greedy, as in AETG (Cohen et al., IEEE TSE 23(7), 1997): a pair that is missing starts a point, and every other axis
    takes the value that brings the most missing pairs. Where several bring as many it is the first, an axis' usual one,
    so that the rare ones are as rare as they can be.
    """
    names = list(axes)
    missing = {
        ((one, a), (other, b))
        for one, other in combinations(range(len(names)), 2)
        for a in range(len(axes[names[one]]))
        for b in range(len(axes[names[other]]))
    }
    points: list[dict[int, int]] = []
    while missing:
        waiting = sorted(missing)
        point = dict(waiting[rng.integers(len(waiting))])
        for axis in rng.permutation(len(names)).tolist():
            if axis not in point:
                levels = range(len(axes[names[axis]]))
                point[axis] = max(levels, key=lambda level: len(_pairs(point, axis, level) & missing))
        missing -= {pair for axis, level in point.items() for pair in _pairs(point, axis, level)}
        points.append(point)
    return [{names[axis]: axes[names[axis]][level] for axis, level in sorted(point.items())} for point in points]


def _pairs(point: Mapping[int, int], axis: int, level: int) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """What one value of an axis makes with the values that the point has already, each pair in the axes' order."""
    return {
        ((axis, level), chosen) if axis < chosen[0] else (chosen, (axis, level))
        for chosen in point.items()
        if chosen[0] != axis
    }
