"""Covering arrays: every pair of values meets, in few points, and rare values are rare."""

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_lab.verify.covering import pairwise


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_every_pair_of_values_is_in_a_point(sizes: list[int], seed: int) -> None:
    axes = {f"axis {number}": range(size) for number, size in enumerate(sizes)}
    points = pairwise(axes, np.random.default_rng(seed))
    for one, other in combinations(axes, 2):
        assert {(point[one], point[other]) for point in points} == set(product(axes[one], axes[other]))
    largest = sorted(sizes)[-2:]
    assert len(points) <= 3 * np.prod(largest) or len(sizes) == 1


def test_few_points_and_the_usual_value_most_often() -> None:
    axes = {"mode": range(9), "layout": range(8), "compiled": [False, True], **{f"x{n}": range(4) for n in range(5)}}
    points = pairwise(axes, np.random.default_rng(0))
    assert len(points) <= 80  # of 147,456, and 72 is the least
    assert sum(point["compiled"] for point in points) <= 15


def test_a_seed_gives_one_array_and_another_another() -> None:
    axes = {"a": "xyz", "b": "uvw", "c": "pq"}
    one, again, other = (pairwise(axes, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again != other
