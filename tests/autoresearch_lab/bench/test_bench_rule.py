"""The verdict's cases, and the rule's error rate and power by simulation."""

import math

import numpy as np
import pytest

from autoresearch_lab.bench.rule import Finding, Rule, decide, find
from autoresearch_lab.bench.simulation import Noise, rates
from autoresearch_lab.statistics import Interval

QUICK = Rule(resamples=200)


def finding(low: float, high: float, floor: float = 0.0) -> Finding:
    control = Interval(-floor, 0.0, floor)
    return Finding(Interval(low, (low + high) / 2, high), control, floor, max(floor, math.log(1.01)))


@pytest.mark.parametrize(
    "low,high,floor,verdict",
    [
        (0.02, 0.05, 0.0, "FASTER"),
        (0.005, 0.05, 0.0, "AMBIGUOUS"),  # above zero but not beyond 1 %
        (0.02, 0.05, 0.03, "AMBIGUOUS"),  # not beyond what the baseline shows against itself
        (0.04, 0.05, 0.03, "FASTER"),
        (-0.05, -0.02, 0.0, "SLOWER"),
        (-0.005, 0.008, 0.0, "SAME"),
        (-0.02, 0.02, 0.0, "AMBIGUOUS"),
        (-0.02, 0.02, 0.025, "SAME"),
        (-0.05, 0.05, 0.06, "AMBIGUOUS"),  # a band of 6 % says nothing about sameness
    ],
)
def test_verdicts(low, high, floor, verdict):
    assert decide(finding(low, high, floor), Rule())[0] == verdict


@pytest.mark.parametrize(
    ("low", "high", "floor", "words"),
    [
        (0.005, 0.05, 0.0, "reaches below that"),
        (-0.5, -0.001, 0.0, "no gain shows, and the interval reaches below x0.990"),
        (-0.05, 0.05, 0.06, "too noisy"),
    ],
)
def test_what_is_ambiguous_says_why(low, high, floor, words):
    assert words in decide(finding(low, high, floor), Rule())[1]


def test_an_objection_turns_a_win_into_ambiguous_and_says_why():
    verdict, reason = decide(finding(0.5, 0.6), Rule(), ["workload x is slower"])
    assert verdict == "AMBIGUOUS" and "workload x is slower" in reason
    assert decide(finding(-0.6, -0.5), Rule(), ["workload x is slower"])[0] == "SLOWER"


def test_the_floor_is_what_the_baseline_shows_against_itself():
    rng = np.random.default_rng(0)
    groups = [np.full(10, 0.5) for _ in range(3)]
    control = [np.full(10, 0.2) for _ in range(3)]
    found = find(groups, control, 0.003, QUICK, rng)
    assert found.floor == pytest.approx(0.2) and found.threshold == pytest.approx(0.2)
    assert found.interval.point == pytest.approx(0.5)


def test_the_looks_share_the_error_rate():
    rule = Rule()
    assert sum(rule.alpha(look) for look in range(len(rule.looks))) == pytest.approx(rule.error)


@pytest.mark.parametrize(
    "noise",
    [
        Noise(),
        Noise(level=0.02, level_df=4.0),
        Noise(own=0.1, shared=0.3, correlation=0.8, bursts=0.3),
        Noise(level=0.01, modes=True),
    ],
    ids=["usual", "levels", "crowded", "modes"],
)
def test_nulls_are_not_called_faster(noise):
    found = rates(0.0, noise, QUICK, 60, np.random.default_rng(11))
    assert found["FASTER"] <= 1 / 60 and found["SLOWER"] <= 1 / 60


def test_a_clear_winner_is_found_at_the_first_look():
    found = rates(math.log(1.5), Noise(), QUICK, 40, np.random.default_rng(2))
    assert found["FASTER"] == 1.0 and found["processes"] < 4.5


def test_five_per_cent_is_found_where_the_machine_is_calm():
    calm = Noise(level=0.003, shared=0.03, own=0.012, bursts=0.02, rounds=30)
    found = rates(math.log(1.05), calm, QUICK, 40, np.random.default_rng(2))
    assert found["FASTER"] >= 0.9
    mirrored = rates(-math.log(1.05), calm, QUICK, 40, np.random.default_rng(2))
    assert mirrored["SLOWER"] >= 0.9


def test_alone_on_a_machine_three_per_cent_are_found_and_most_nulls_are_the_same():
    alone = Noise(level=0.005, own=0.02, bursts=0.01, rounds=60)
    assert rates(math.log(1.03), alone, QUICK, 40, np.random.default_rng(3))["FASTER"] >= 0.9
    assert rates(0.0, alone, QUICK, 40, np.random.default_rng(3))["SAME"] > 0.5
