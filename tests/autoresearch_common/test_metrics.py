"""The measures of error: what each must notice, and what none may object to."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from autoresearch_common.metrics import errors, scale_of
from autoresearch_common.tolerance import Errors, allowed, of_a_sum, worst
from autoresearch_lab.verify.comparisons import measure, nonfinite_problem
from autoresearch_lab.verify.reference import expected

FLOOR = 2.0**-8


def _errors(result: np.ndarray, reference: np.ndarray, dtype: str = "bfloat16") -> Errors:
    return errors(result, reference, scale_of(reference, None, dtype))


def _bad(found: Errors, shape: tuple[int, ...], baseline: Errors | None = None) -> bool:
    limits = allowed(baseline or Errors(0, 0, 0, 0), 2.0, FLOOR, math.prod(shape[:-1]))
    return any(getattr(found, name) > getattr(limits, name) for name in ("element", "row", "whole", "bias"))


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2048, 48)) * 1e-6


def test_rounding_to_the_output_dtype_passes(reference: np.ndarray) -> None:
    rounded = reference.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert not _bad(_errors(rounded, reference), reference.shape)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: np.zeros_like(r),
        lambda r: np.ones_like(r),
        lambda r: r * 1.01,
        lambda r: r * 0.998,
        lambda r: np.roll(r, 1, axis=0),
        lambda r: np.concatenate([r[:-1], np.zeros_like(r[-1:])]),
        lambda r: np.where(np.arange(r.shape[1]) == 47, 0.0, r),
    ],
    ids=["zeros", "ones", "1 % large", "0.2 % small", "one row on", "last row zero", "last column zero"],
)
def test_faults_show_even_where_all_values_are_tiny(spoil, reference: np.ndarray) -> None:
    rounded = spoil(reference).astype(ml_dtypes.bfloat16).astype(np.float64)
    assert _bad(_errors(rounded, reference), reference.shape)


@pytest.mark.parametrize("row", range(0, 2048, 300))
def test_a_fault_in_any_single_row_shows(row: int, reference: np.ndarray) -> None:
    result = reference.copy()
    result[row, 5] *= 1.5
    result[row, 5] += 3e-7
    assert _bad(_errors(result, reference), reference.shape)


def test_a_zero_reference_tolerates_nothing_but_zero() -> None:
    zero = np.zeros((3, 5))
    assert not _bad(_errors(zero, zero), zero.shape)
    assert _bad(_errors(zero + 1e-30, zero), zero.shape)


def test_factor_and_floor_both_count() -> None:
    limits = allowed(Errors(0.1, 0.1, 0.1, 0.1), 2.0, FLOOR, 1000)
    assert limits.element == pytest.approx(0.2, rel=0.15)
    assert allowed(Errors(0, 0, 0, 0), 2.0, FLOOR, 1000).element == FLOOR
    few = allowed(Errors(0.1, 0.1, 0.1, 0.1), 2.0, FLOOR, 1)
    assert few.element > limits.element


def test_conditioning_widens_the_scale() -> None:
    reference = np.array([[1e-6, 1.0]])
    wide = scale_of(reference, np.array([[5.0, 5.0]]), "float32")
    assert (
        errors(reference + 1e-3, reference, wide).row
        < errors(reference + 1e-3, reference, scale_of(reference, None, "float32")).row
    )


def test_what_is_not_finite_must_agree_exactly() -> None:
    right = expected(np.array([1.0, np.nan, np.inf, -np.inf, 1e39]), "float32")
    good = np.array([1.0, np.nan, np.inf, -np.inf, np.inf])
    assert nonfinite_problem(good, right) is None
    assert measure(good, right).element < 1e-6
    for place, value in enumerate((np.nan, 0.0, np.nan, np.inf, 1e38)):
        bad = good.copy()
        bad[place] = value
        assert nonfinite_problem(bad, right), place


def test_booleans_are_right_or_wrong() -> None:
    right = expected(np.array([[True, False], [True, True]]), "bool")
    assert measure(right.value, right).element == 0.0
    assert measure(~right.value, right).element == 1.0


def test_the_worst_of_several_is_taken_measure_by_measure() -> None:
    assert worst([Errors(1, 2, 3, 4), Errors(4, 3, 2, 1)]) == Errors(4, 3, 3, 4)


@pytest.mark.parametrize("count", [64, 1000, 8192])
@pytest.mark.parametrize("equal", [False, True])
def test_a_plain_sum_stays_below_what_it_may_add(count: int, equal: bool) -> None:
    rng = np.random.default_rng(count)
    terms = rng.uniform(1.0, 4.0, (200, 1 if equal else count)).astype(np.float32) ** 2
    terms = np.broadcast_to(terms, (200, count))
    total = np.cumsum(terms, axis=1, dtype=np.float32)[:, -1].astype(np.float64)  # one term after the other
    exact = terms.astype(np.float64).sum(axis=1)
    error = np.max(np.abs(total - exact) / exact)
    assert error <= of_a_sum(count, equal=equal)
    assert not equal or error > of_a_sum(count)


def test_a_single_term_adds_nothing() -> None:
    assert of_a_sum(1) == of_a_sum(1, equal=True) == 0.0
