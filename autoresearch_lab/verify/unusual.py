"""What the arrays of unusual calls hold: values as at the start of a training, factors that neither usual numbers nor
extreme ones reach, and cotangents as a mean, a mask or an unused output makes them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from autoresearch_common.arrays import is_float
from autoresearch_lab.verify.cases import Contents
from autoresearch_lab.verify.covering import Deck

# Factors for all values of an array, as powers of ten; float16 has no room for more.
DECADES = {"float16": 2.0}
MOST_DECADES = 7.0
PARTS_OF_RANGE = 12
# A single number, such as a factor that is learned, is beside the arrays that it multiplies.
DECADES_OF_NUMBERS = 1.0
# Cotangents times powers of two, as a mean over many rows and a scaled loss make them; float16 has little room.
SIZES_OF_COTANGENTS, SIZES_IN_FLOAT16 = (-36, 16), (-6, 4)
# A size from each of so many parts of that range, and so many times the usual one.
PARTS_OF_SIZES, USUAL_SIZES = 6, 4
# As at the start of a training: an array is zero throughout, a factor is one of these.
CHANCE_BEGUN, BEGUN_FACTORS = 0.25, (1.0, 0.0, -1.0)
# Of a table some rows were not used, so that their gradient is zero.
CHANCE_UNTOUCHED = 0.4
# Of several outputs one is not used: its cotangent is zero throughout.
CHANCE_UNUSED = 0.3
# Rows that a loss leaves out have a cotangent of zero; at the start of a training, behind weights of zero, all have.
CHANCE_MASKED, CHANCE_NO_COTANGENT = 0.35, 0.1
# Where not all rows count, half of them do not, or all but one of so many: of a table of tokens few have a gradient.
ONE_OF = 16
# Where most rows of large arrays are zero, one of so many is not: whoever looks at a few sees none.
RARE = 256


class MayBeZero(NamedTuple):
    """Arrays that usual contents may have zero: those that are learned or an optimizer's state, and the gradients that
    an optimizer is handed."""

    learned: Sequence[str]
    handed: Sequence[str]


def begun(contents: Contents, zero: MayBeZero, rng: np.random.Generator) -> Contents:
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
    """The same with half of its places along the first axis zero, or all but a few; as it is where it has but one."""
    if not array.ndim or len(array) < 2:
        return array
    changed = array.copy()
    half, most = len(array) // 2, len(array) - max(1, len(array) // ONE_OF)
    changed[rng.permutation(len(array))[: half if rng.integers(2) else most]] = 0
    return changed


def with_cotangents_of(contents: Contents, rng: np.random.Generator, deck: Deck, *, masked: bool) -> Contents:
    """The same, or with cotangents far from 1, or zero in some rows or throughout, or with one of several outputs not
    used. masked: some rows may be zero; where one element stands for many they stay equal. deck: of the parts of the
    range of their sizes, for each dtype."""
    if contents.cotangents is None:
        return contents
    cotangents = list(contents.cotangents)
    dtypes = {str(array.dtype) for array in (*contents.arrays.values(), *cotangents)}
    part = deck.draw(("size", *sorted(dtypes)), (*range(PARTS_OF_SIZES), *[None] * USUAL_SIZES))
    if part is not None:
        low, high = SIZES_IN_FLOAT16 if "float16" in dtypes else SIZES_OF_COTANGENTS
        factor = 2.0 ** round(low + (high - low) * (part + rng.random()) / PARTS_OF_SIZES)
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


def _rows_left_out(cotangent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same with half of its rows zero, or of its elements where there is but one axis."""
    rows = cotangent.reshape(-1, cotangent.shape[-1]) if cotangent.ndim > 1 else cotangent
    return _some_zero(rows, rng).reshape(cotangent.shape)


def scaled(contents: Contents, rng: np.random.Generator, deck: Deck, most: Mapping[str, float]) -> Contents:
    """The same with every floating array times a factor of its own, some rows constant and some with their largest
    element twice: values that neither usual numbers nor extreme ones reach. deck: of the parts of the range from which
    factors come, each has one before any has two. most: by argument, the largest magnitude that a factor may bring it
    to."""
    arrays = {}
    for name, array in contents.arrays.items():
        if not is_float(array) or not array.size:
            arrays[name] = array
            continue
        if not array.ndim:
            factor = 10.0 ** _uniform(-DECADES_OF_NUMBERS, DECADES_OF_NUMBERS, name, rng, deck)
            arrays[name] = (array.astype(np.float64) * factor).astype(array.dtype)
            continue
        decades = DECADES.get(str(array.dtype), MOST_DECADES)
        rows = array.astype(np.float64).reshape(-1, array.shape[-1])
        room = most.get(name, np.inf) / (np.max(np.abs(rows)) or 1.0)
        rows *= 10.0 ** _uniform(-decades, min(decades, math.log10(room)), (name, decades), rng, deck)
        for row in rng.permutation(len(rows))[: max(1, len(rows) // 8)]:
            rows[row] = rows[row, 0]
        for row in rng.permutation(len(rows))[: max(1, len(rows) // 8)]:
            rows[row, rng.integers(rows.shape[1])] = rows[row].max()
        arrays[name] = rows.reshape(array.shape).astype(array.dtype)
    return Contents(arrays, contents.scalars, contents.cotangents, "scaled")


def _uniform(low: float, high: float, about: Hashable, rng: np.random.Generator, deck: Deck) -> float:
    part = deck.draw(("factor", about), range(PARTS_OF_RANGE))
    return low + (high - low) * (part + rng.random()) / PARTS_OF_RANGE


def sparse(contents: Contents, names: Sequence[str], rng: np.random.Generator) -> Contents:
    """The same, but for most rows of these arrays, which are zero, the same rows in arrays of one form: as those of a
    table whose words did not come."""
    arrays, drawn = dict(contents.arrays), dict[tuple[int, ...], np.ndarray]()
    for name in names:
        lead = arrays[name].shape[:-1]
        if is_float(arrays[name]) and lead:
            drawn.setdefault(lead, _few(lead, rng))
            arrays[name] = np.where(drawn[lead], arrays[name], arrays[name].dtype.type(0))
    return Contents(arrays, contents.scalars, contents.cotangents, contents.kind)


def with_few_cotangents(contents: Contents, rng: np.random.Generator) -> Contents:
    """The same with cotangents that are zero in most rows, as where a loss counts few of them."""
    cotangents = tuple(
        np.where(_few(each.shape[:-1], rng), each, each.dtype.type(0)) if each.ndim > 1 else each
        for each in contents.cotangents or ()
    )
    return Contents(contents.arrays, contents.scalars, cotangents, contents.kind)


def _few(lead: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """One row in RARE, two at least, as a mask that fits arrays of rows."""
    rows = np.zeros(math.prod(lead), dtype=bool)
    rows[rng.permutation(rows.size)[: max(2, rows.size // RARE)]] = True
    return rows.reshape(*lead, 1)
