"""Gradients that cancel are judged on the size of what was summed; zeros of zero arguments stay zeros."""

from __future__ import annotations

import numpy as np
import pytest

from autoresearch_lab.verify.cancelled import as_large_as_others, cancelled_rows, summed_size
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
    assert not cancelled_rows(gradient, [exact]).any() and not cancelled_rows(gradient, []).any()
    which = cancelled_rows(gradient, [exact, rounds])
    assert which.tolist() == [place == 3 for place in range(16)]
    wider = as_large_as_others(scale, gradient, which)
    typical = np.median(np.sqrt(np.mean(np.delete(gradient, [3, 7], axis=0) ** 2, axis=1)))
    assert wider.rows[3, 0] == pytest.approx(typical) == wider.elements[3].min() and scale.rows[3, 0] < typical / 2
    assert np.array_equal(wider.rows[~which], scale.rows[~which])
    assert np.array_equal(wider.elements[~which], scale.elements[~which])
    assert wider.power == scale.power


def test_where_nothing_cancels_or_everything_is_zero_the_scale_stays(x: np.ndarray) -> None:
    for gradient, which in ((x, np.zeros(16, bool)), (np.zeros_like(x), np.ones(16, bool)), (x[:0], np.ones(0, bool))):
        scale = expected(gradient, "float32").scale
        assert scale is not None and as_large_as_others(scale, gradient, which) is scale
    small = x.copy()
    small[5] *= 1e-6
    scale = expected(small, "float32").scale
    assert scale is not None
    wider = as_large_as_others(scale, small, np.ones(16, bool))
    assert wider.rows[5, 0] == pytest.approx(np.median(np.sqrt(np.mean(small**2, axis=1)))) and scale.rows[5, 0] < 0.5
    assert np.array_equal(wider.rows[0], scale.rows[0])
