"""Gradients that cancel are judged on the size of what was summed; zeros of zero arguments stay zeros."""

from __future__ import annotations

import numpy as np
import pytest

from autoresearch_lab.verify.cancelled import summed_size, with_cancelled_rows
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


def test_a_row_that_cancels_is_as_large_as_others_where_a_trusted_implementation_rounds(x: np.ndarray) -> None:
    gradient = x.copy()
    gradient[3] = gradient[7] = 0.0
    rounds, exact = gradient.copy(), gradient.copy()
    rounds[3, 2] = 1e-7
    scale = expected(gradient, "float32").scale
    assert scale is not None
    assert with_cancelled_rows(scale, gradient, [exact]) is scale
    wider = with_cancelled_rows(scale, gradient, [exact, rounds])
    typical = np.median(np.sqrt(np.mean(np.delete(gradient, [3, 7], axis=0) ** 2, axis=1)))
    assert wider.rows[3, 0] == typical == wider.elements[3].min() and scale.rows[3, 0] < typical / 2
    others = np.delete(np.arange(16), 3)
    assert np.array_equal(wider.rows[others], scale.rows[others])
    assert np.array_equal(wider.elements[others], scale.elements[others])
    assert wider.power == scale.power


def test_a_gradient_without_rows_of_zeros_or_with_nothing_else_keeps_its_scale(x: np.ndarray) -> None:
    for gradient in (x, np.zeros_like(x), np.zeros((0, 8))):
        scale = expected(gradient, "float32").scale
        assert scale is not None and with_cancelled_rows(scale, gradient, [np.ones_like(gradient)]) is scale
