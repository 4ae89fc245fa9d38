"""Covering arrays: few points of a large space in which all values of any two axes meet, and of some any three; and
draws in which every option comes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class Deck:
    """Draws of which each comes once before any comes twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._left = rng, dict[Hashable, list[Any]]()

    def draw(self, about: Hashable, options: Sequence[T]) -> T:
        """One of the options. about: what they are options of."""
        left: list[T] = self._left.setdefault(about, [])
        if not left:
            left += [options[place] for place in self._rng.permutation(len(options))]
        return left.pop()


def pairwise(
    axes: Mapping[str, Sequence[Any]], rng: np.random.Generator, given: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Points, each with one value per axis, such that every pair of values of two axes is in at least one. The points
    that are given come first, and what they have together is there already.

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
    points = [{axis: list(axes[name]).index(point[name]) for axis, name in enumerate(names)} for point in given]
    for point in points:
        missing -= {pair for axis, level in point.items() for pair in _pairs(point, axis, level)}
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


def refined(
    points: Sequence[Mapping[str, Any]],
    free: Mapping[str, Sequence[Any]],
    costs: Sequence[int],
    needed: Callable[[frozenset[str]], bool],
    rng: np.random.Generator,
    met: Sequence[Mapping[str, Any]] = (),
) -> list[tuple[int, dict[str, Any]]]:
    """(number of a point, values of the axes in `free`): settings to try at points whose other axes stay as they are,
    such that, with what the points themselves have, the values of three axes meet wherever they can.

    costs: of a setting at each point, in any unit: dear points are used seldom. needed: which sets of three axes.
    met: what was tried elsewhere. Three values can meet where one of the points has those of them that are not free.
    """
    if not points:
        return []
    fixed = [axis for axis in points[0] if axis not in free]
    sets = [each for each in combinations([*free, *fixed], 3) if set(each) & set(free) and needed(frozenset(each))]
    at: dict[frozenset[tuple[str, Any]], list[int]] = {}  # fixed values -> the points that have them
    missing: dict[frozenset[tuple[str, Any]], None] = {}
    for axes in sets:
        kept = [axis for axis in axes if axis in fixed]
        for number, point in enumerate(points):
            have = frozenset((axis, point[axis]) for axis in kept)
            numbers = at.setdefault(have, [])
            if not numbers or numbers[-1] != number:
                numbers.append(number)
            levels = [free[axis] for axis in axes if axis in free]
            names = [axis for axis in axes if axis in free]
            missing |= dict.fromkeys(have | frozenset(zip(names, chosen, strict=True)) for chosen in product(*levels))
    for point in (*points, *met):
        for axes in sets:
            missing.pop(frozenset((axis, point[axis]) for axis in axes), None)
    spent = list(costs)
    found = []
    while missing:
        wanted = list(missing)[int(rng.integers(len(missing)))]
        number = min(at[frozenset(each for each in wanted if each[0] in fixed)], key=lambda number: spent[number])
        setting = {axis: value for axis, value in wanted if axis in free}
        for axis in rng.permutation(list(free)).tolist():
            if axis not in setting:
                others = {**points[number], **dict.fromkeys(free), **setting}
                setting[axis] = max(free[axis], key=lambda value: _new(others | {axis: value}, axis, sets, missing))
        point = {**points[number], **setting}
        for axes in sets:
            missing.pop(frozenset((axis, point[axis]) for axis in axes), None)
        spent[number] += costs[number]
        found.append((number, setting))
    return found


def _new(
    point: Mapping[str, Any],
    axis: str,
    sets: Sequence[tuple[str, ...]],
    missing: Mapping[frozenset[tuple[str, Any]], None],
) -> int:
    """How many of the missing triples with this axis a point has; an axis without a value yet is None."""
    return sum(frozenset((one, point[one]) for one in axes) in missing for axes in sets if axis in axes)


def _pairs(point: Mapping[int, int], axis: int, level: int) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """What one value of an axis makes with the values that the point has already, each pair in the axes' order."""
    return {
        ((axis, level), chosen) if axis < chosen[0] else (chosen, (axis, level))
        for chosen in point.items()
        if chosen[0] != axis
    }
