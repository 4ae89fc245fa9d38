"""The common factor in an error: what it must find, and that rounding alone is never taken for one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from autoresearch_lab.verify.bias import Bias, bias_of, critical, limit, part_limit, parts_of


def _bfloat16(values: np.ndarray) -> np.ndarray:
    return values.astype(ml_dtypes.bfloat16).astype(np.float64)


def _sure(found: Bias, allowed: float) -> bool:
    return abs(found.value) - found.margin > allowed


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2048, 64)) * 1e-30


@pytest.mark.parametrize("factor", [1.001, 0.999, 0.9995])
def test_a_factor_far_below_one_rounding_shows(factor: float, reference: np.ndarray) -> None:
    found = bias_of(_bfloat16(factor * reference), reference)
    assert found is not None
    assert found.value == pytest.approx(factor - 1.0, abs=4 * found.spread)
    trusted = bias_of(_bfloat16(reference), reference)
    assert _sure(found, limit([trusted], "bfloat16", 2.0**-22, reference).allowed)


def test_rounding_is_no_factor() -> None:
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(200):
        reference = rng.standard_normal((64, 32)) * rng.choice([1.0, 3.0], size=(64, 1))
        found = bias_of(_bfloat16(reference), reference)
        assert found is not None and not _sure(found, 0.0)
        scores.append(found.value / found.spread)
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=0.35)


def test_what_rows_or_columns_share_widens_the_error() -> None:
    rng = np.random.default_rng(2)
    reference = rng.standard_normal((256, 64))
    alone = bias_of(reference * (1 + 1e-3 * rng.standard_normal((256, 64))), reference)
    by_row = bias_of(reference * (1 + 1e-3 * rng.standard_normal((256, 1))), reference)
    by_column = bias_of(reference * (1 + 1e-3 * rng.standard_normal((1, 64))), reference)
    assert by_row.spread > 4 * alone.spread and by_column.spread > 8 * alone.spread
    assert by_row.spread == pytest.approx(1e-3 / 16, rel=0.3)
    assert by_column.spread == pytest.approx(1e-3 / 8, rel=0.4)


def test_what_is_rounded_down_or_shifted_lies_to_one_side(reference: np.ndarray) -> None:
    reference = reference * 1e30
    near = _bfloat16(reference)
    allowed = limit([bias_of(near, reference, sideways=True)], "bfloat16", 2.0**-22, reference).allowed
    down = np.where(near > reference, near - 2.0 ** (np.floor(np.log2(np.abs(near))) - 7), near)
    for wrong in (down, -down[::-1], _bfloat16(reference + 5e-4)):
        right = -reference[::-1] if wrong[0, 0] == -down[-1, 0] else reference
        assert not _sure(bias_of(wrong, right), allowed)
        assert _sure(bias_of(wrong, right, sideways=True), allowed)
    assert not _sure(bias_of(near, reference, sideways=True), allowed)


def test_few_rows_and_zeros_are_not_looked_at() -> None:
    ones = np.ones((8, 100))
    assert bias_of(0.9 * ones, ones) is None
    assert bias_of(np.zeros((64, 4)), np.zeros((64, 4))) is None
    heavy = np.ones((100, 4))
    heavy[:2] = 1000.0
    assert bias_of(0.9 * heavy, heavy) is None
    assert bias_of(np.zeros(()), np.ones(())) is None
    assert bias_of(0.9 * np.ones(64), np.ones(64)).value == pytest.approx(-0.1)


def test_of_an_updated_argument_the_change_counts() -> None:
    rng = np.random.default_rng(3)
    before, change = rng.standard_normal((256, 64)), 1e-3 * rng.standard_normal((256, 64))
    found = bias_of(before + 0.99 * change, before + change, before)
    assert found.value == pytest.approx(-0.01, rel=1e-6)
    assert abs(bias_of(before + 0.99 * change, before + change).value) < 1e-6
    unchanged = limit([], "float32", 2.0**-22, before + change)
    assert limit([], "float32", 2.0**-22, before + change, before).allowed >= unchanged.allowed


def test_few_degrees_of_freedom_need_more() -> None:
    assert critical(1e9) == pytest.approx(5.0, abs=1e-3)
    assert critical(31) > 6.0 and critical(15) > critical(31)


def test_trusted_implementations_and_the_dtype_both_count() -> None:
    reference = np.ones((64, 4))
    floor = limit([], "bfloat16", 2.0**-22, reference).allowed
    assert floor == pytest.approx(2.0**-9 / 12)
    assert limit([], "float32", 2.0**-22, reference).allowed == 2.0**-22
    assert limit([], "float32", 0.01, reference).allowed == 2.0**-15
    known = limit([Bias(-1e-3, 1e-4, 50.0), Bias(0.0, 1e-5, 50.0)], "bfloat16", 2.0**-22, reference)
    assert known.trusted == pytest.approx(1.1e-3) and known.allowed == pytest.approx(1.65e-3)


@pytest.mark.parametrize(("axis", "place"), [(0, 3), (2, 1), (3, 15)])
def test_a_factor_in_one_part_shows_there(axis: int, place: int) -> None:
    reference = np.random.default_rng(3).standard_normal((8, 128, 4, 16))
    scale = np.ones([size if each == axis else 1 for each, size in enumerate(reference.shape)])
    scale.reshape(-1)[place] = 0.997
    (found,) = [part for part in parts_of(_bfloat16(reference * scale), reference) if part.axis == axis]
    assert found.place == place and found.bias.value == pytest.approx(-0.003, abs=4 * found.bias.spread)
    assert _sure(found.bias, part_limit((), "bfloat16", 2.0**-22).allowed)
    trusted = [found.bias]
    assert not _sure(found.bias, part_limit(trusted, "bfloat16", 2.0**-22).allowed)


def test_rounding_is_no_factor_of_a_part() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        reference = rng.standard_normal((4, 32, 3, 24)) * rng.choice([1.0, 3.0], size=(4, 32, 1, 1))
        for part in parts_of(_bfloat16(reference), reference):
            assert not _sure(part.bias, part_limit((), "bfloat16", 2.0**-22).allowed)


def test_parts_of_few_rows_are_left_out() -> None:
    reference = np.random.default_rng(5).standard_normal((3, 5))
    assert parts_of(0.9 * reference, reference) == []


def test_of_a_large_result_some_rows_are_enough() -> None:
    reference = np.random.default_rng(6).standard_normal((2, 4096, 256))
    scale = np.where(np.arange(256) == 77, 0.998, 1.0)
    found = parts_of(_bfloat16(reference * scale), reference)[-1]
    assert (found.axis, found.place) == (2, 77) and _sure(found.bias, part_limit((), "bfloat16", 2.0**-22).allowed)
