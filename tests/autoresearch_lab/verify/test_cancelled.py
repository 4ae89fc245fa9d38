"""Gradients that cancel are judged on the size of what was summed; zeros of zero arguments stay zeros."""

from __future__ import annotations

import numpy as np
import pytest

from autoresearch_common.metrics import FullRows
from autoresearch_lab.verify.cancelled import summed_size
from autoresearch_lab.verify.cases import Contents
from autoresearch_lab.verify.reference import expected


def _contents(x: np.ndarray, cotangent: np.ndarray) -> Contents:
    return Contents({"x": x.astype(np.float32), "n": np.arange(3)}, {}, (cotangent.astype(np.float32),))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, 8))


@pytest.mark.parametrize("residue", [0.0, 1e-17])
def test_a_sum_that_cancels_has_the_size_of_its_terms(residue: float, x: np.ndarray) -> None:
    size = summed_size(_contents(x, x), [2.0 * x], "x", np.full((16, 8), residue))
    assert size == pytest.approx(2.0 * np.sqrt(np.mean(x**2)), rel=1e-3)
    scale = expected(np.full((16, 8), residue), "float32", None, size).scale
    assert scale is not None and scale.rows.min() >= size


def test_any_other_gradient_has_its_own_size(x: np.ndarray) -> None:
    assert summed_size(_contents(x, x), [x], "x", 1e-9 * x) == 0.0


def test_a_zero_that_comes_from_a_zero_stays_strict(x: np.ndarray) -> None:
    zero, gradient = np.zeros_like(x), np.zeros((16, 8))
    assert summed_size(_contents(zero, x), [x], "x", gradient) == 0.0
    assert summed_size(_contents(x, zero), [x], "x", gradient) == 0.0
    assert summed_size(_contents(x, x), [zero], "x", gradient) == 0.0
    assert summed_size(_contents(x, np.full_like(x, np.nan)), [x], "x", gradient) == 0.0


def test_a_single_nan_elsewhere_changes_no_size(x: np.ndarray) -> None:
    spoiled = x.copy()
    spoiled[3, 5] = np.nan
    size = summed_size(_contents(spoiled, x), [x], "x", np.zeros((16, 8)))
    assert size == pytest.approx(np.sqrt(np.mean(x**2)), rel=0.1)


def typical_row(values: np.ndarray) -> float:
    sizes = np.sqrt(np.mean(values**2, axis=1))
    return float(np.median(sizes[sizes > 0]))


def test_rows_of_zeros_count_as_large_as_others(x: np.ndarray) -> None:
    gradient, zero = x.copy(), np.arange(16) % 4 == 3
    gradient[zero] = 0.0
    scale = expected(gradient, "float32").scale
    wider = expected(gradient, "float32", full="rows of zeros").scale
    assert scale is not None and wider is not None
    assert wider.rows[zero] == pytest.approx(typical_row(gradient)) == wider.elements[zero]
    assert scale.rows[zero].max() < typical_row(gradient) / 2
    assert np.array_equal(wider.rows[~zero], scale.rows[~zero])
    assert np.array_equal(wider.elements[~zero], scale.elements[~zero])
    assert wider.power == scale.power


def test_every_row_counts_as_large_as_others_where_another_arguments_rows_are_one(x: np.ndarray) -> None:
    gradient = x.copy()
    gradient[5] *= 1e-6
    scale = expected(gradient, "float32").scale
    zeros = expected(gradient, "float32", full="rows of zeros").scale
    wider = expected(gradient, "float32", full="all rows").scale
    assert scale is not None and zeros is not None and wider is not None
    assert np.array_equal(zeros.rows, scale.rows) and np.array_equal(zeros.elements, scale.elements)
    assert wider.rows[5, 0] == pytest.approx(typical_row(gradient)) and scale.rows[5, 0] < wider.rows[5, 0] / 2
    assert np.array_equal(wider.rows[0], scale.rows[0])


@pytest.mark.parametrize("full", ["rows of zeros", "all rows"])
def test_a_gradient_of_zeros_and_one_of_nothing_keep_their_scale(x: np.ndarray, full: FullRows) -> None:
    for gradient in (np.zeros_like(x), x[:0]):
        scale = expected(gradient, "float32").scale
        wider = expected(gradient, "float32", full=full).scale
        assert scale is not None and wider is not None
        assert np.array_equal(wider.rows, scale.rows) and np.array_equal(wider.elements, scale.elements)
