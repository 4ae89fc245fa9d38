"""Covering arrays: every pair of values meets, in few points, and rare values are rare."""

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_lab.verify.covering import Deck, pairwise, refined


def test_a_deck_has_every_option_once_before_any_twice() -> None:
    deck = Deck(np.random.default_rng(0))
    drawn = [deck.draw("a", "xyz") for _ in range(30)]
    others = [deck.draw("b", range(2)) for _ in range(2)]
    assert all(sorted(drawn[start : start + 3]) == ["x", "y", "z"] for start in range(0, 30, 3))
    assert len({tuple(drawn[start : start + 3]) for start in range(0, 30, 3)}) > 1 and sorted(others) == [0, 1]


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


def test_further_settings_let_three_values_meet_at_points_that_stay() -> None:
    axes = {"scalar": "abc", "option": "pq", "one": range(4), "other": range(3)}
    rng = np.random.default_rng(0)
    points = pairwise(axes, rng)
    free = {name: axes[name] for name in ("scalar", "option")}
    more = refined(points, free, [1] * len(points), lambda three: "one" in three or "other" in three, rng)
    tried = [*points, *({**points[number], **setting} for number, setting in more)]
    for names in [("scalar", "one", "other"), ("option", "one", "other"), ("scalar", "option", "one")]:
        assert {tuple(point[name] for name in names) for point in tried} == set(
            product(*(axes[name] for name in names))
        )
    assert len(more) < 3 * 4 * 3 * 2 and all(set(setting) <= set(free) for _, setting in more)


def test_dear_points_are_used_seldom_and_what_was_tried_elsewhere_is_not_tried_again() -> None:
    points = [{"one": 0, "other": 0}, {"one": 0, "other": 0}]
    free = {"scalar": "abcdef"}
    rng = np.random.default_rng(0)
    own = [point | {"scalar": "a"} for point in points]
    more = refined(own, free, [1000, 1], lambda three: True, rng)
    assert {number for number, _ in more} == {1} and sorted(s["scalar"] for _, s in more) == list("bcdef")
    met = [{**points[0], "scalar": value} for value in "bcd"]
    assert sorted(s["scalar"] for _, s in refined(own, free, [1, 1], lambda three: True, rng, met)) == list("ef")
    assert refined([], free, [], lambda three: True, rng) == []
