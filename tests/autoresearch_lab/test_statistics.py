"""Intervals: known values, and coverage by simulation where the noise is what real timings have."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from autoresearch_lab import statistics as st


def test_paired_log_ratio_is_positive_where_the_denominator_is_faster():
    ratios = st.paired_log_ratio(np.array([2.0, 1.0]), np.array([1.0, 2.0]))
    assert ratios == pytest.approx([math.log(2), -math.log(2)])


@pytest.mark.parametrize("top,bottom", [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [math.nan]), ([-1.0], [1.0])])
def test_paired_log_ratio_refuses_what_is_no_time(top, bottom):
    with pytest.raises(ValueError):
        st.paired_log_ratio(np.array(top), np.array(bottom))


def test_t_interval_equals_the_textbook():
    # n = 4, mean 2.5, s = 1.29099; t(.975, 3) = 3.18245
    interval = st.t_interval([1.0, 2.0, 3.0, 4.0], 0.025)
    half = 3.18245 * 1.2909944 / 2
    assert interval.plain() == pytest.approx([2.5 - half, 2.5, 2.5 + half], rel=1e-5)
    assert st.t_upper([1.0, 2.0, 3.0, 4.0], 0.025) == interval.high


def test_t_interval_keeps_a_least_spread():
    assert st.t_interval([1.0, 1.0, 1.0], 0.01).low == 1.0
    assert st.t_interval([1.0, 1.0, 1.0], 0.01, least_sd=0.1).low == pytest.approx(1 - 6.96456 * 0.1 / math.sqrt(3))


def test_one_value_is_unbounded_and_none_is_refused():
    assert st.t_interval([1.0], 0.01).plain() == [-math.inf, 1.0, math.inf]
    with pytest.raises(ValueError):
        st.t_interval([], 0.01)
    with pytest.raises(ValueError):
        st.t_interval([1.0, 2.0], 0.5)


def test_interval_forms():
    interval = st.Interval(-1.0, 0.5, 2.0)
    assert interval.ratio().plain() == pytest.approx([math.exp(-1), math.exp(0.5), math.exp(2)])
    assert interval.hull(st.Interval(-3.0, 9.0, 1.0)).plain() == [-3.0, 0.5, 2.0]
    assert interval.largest() == 2.0
    assert math.isfinite(st.Interval(-math.inf, 0.0, math.inf).ratio().high)


def test_resampled_blocks_keep_neighbours():
    series = np.arange(12.0)
    drawn = st.resample_blocks(series, np.random.default_rng(0), resamples=50, length=3)
    assert drawn.shape == (50, 12)
    steps = np.diff(drawn.reshape(50, 4, 3), axis=2)
    assert np.all((steps == 1) | (steps == -11))
    assert set(np.unique(drawn)) <= set(series)


def test_block_length_is_at_least_a_pair():
    assert [st.block_length(n) for n in (1, 2, 5, 27, 200)] == [1, 2, 2, 3, 6]


def _autoregressive(rng, count, correlation):
    white = rng.standard_normal(count + 50) * math.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], white)[50:]


def test_blocks_cover_dependent_noise_where_single_values_do_not():
    rng = np.random.default_rng(7)
    missed = {1: 0, None: 0}
    for _ in range(150):
        series = _autoregressive(rng, 120, 0.7)
        for length in missed:
            drawn = np.median(st.resample_blocks(series, rng, 300, length or 12), axis=1)
            low, high = np.quantile(drawn, [0.05, 0.95])
            missed[length] += not low <= 0 <= high
    assert missed[1] / 150 > 0.3  # treating the values as independent: 10 % were promised
    assert missed[None] / 150 < 0.25


def test_bootstrap_is_reproducible_and_holds_its_point():
    groups = [np.random.default_rng(1).normal(0.3, 0.1, 20) for _ in range(3)]
    one = st.bootstrap_interval(groups, 0.005, np.random.default_rng(5), 1000)
    two = st.bootstrap_interval(groups, 0.005, np.random.default_rng(5), 1000)
    assert one == two
    assert one.low <= one.point <= one.high
    with pytest.raises(ValueError):
        st.bootstrap_interval([], 0.01, np.random.default_rng(0))


def test_grouped_interval_sees_levels_that_differ_between_groups():
    rng = np.random.default_rng(3)
    groups = [level + rng.normal(0, 0.001, 30) for level in (0.0, 0.1, 0.2)]
    inside = st.bootstrap_interval(groups, 0.01, rng, 500)
    whole = st.grouped_interval(groups, 0.01, rng, resamples=500)
    assert inside.high - inside.low < 0.01
    assert whole.high - whole.low == pytest.approx(2 * 6.96456 * 0.1 / math.sqrt(3), rel=0.05)


def test_split_alpha_adds_up():
    assert sum(st.split_alpha(0.01, 3)) == pytest.approx(0.01)
    with pytest.raises(ValueError):
        st.split_alpha(0.01, 0)
