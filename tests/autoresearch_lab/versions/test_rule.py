"""The rule of a trial: its arithmetic, and its error rates by simulation on the measured noise."""

import math

import numpy as np
import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.research.loop import TRIALS
from autoresearch_lab.statistics import Interval
from autoresearch_lab.versions.rule import TrialRule, clock_for, equal_time, interval, verdict

RULE = TrialRule()
SLOPE = 0.25  # bits per byte for a factor of e in tokens: 1 % more tokens = .0025
# s.d. of paired differences of val_bpb: another rounding; as the A/B measured it; seeds that do not pair (.0065 each).
PAIRED, UNPAIRED = 0.0013, 0.0092
# s.d. of the log-ratio of the speeds of two neighbouring processes: quiet, eager, compiled kernels in C.
SPEEDS = (0.002, 0.02, 0.06)


def gained(log_time: float) -> float:
    """Bits per byte that e^log_time times the tokens are worth: not quite SLOPE for each factor of e, as on the power
    law that shapes are predicted by, of exponent .4."""
    return SLOPE * (1 - math.exp(-0.4 * log_time)) / 0.4


# As a trial measures it: between 80 % of the steps and all of them.
MEASURED = gained(math.log(0.8)) / math.log(0.8)


def decide(rng: np.random.Generator, gain: float, bpb_sd: float, speed_sd: float, faster: float = 0.0) -> str:
    """The verdict on a version that is `gain` bits per byte better at equal tokens, and by e^faster faster."""
    most = RULE.looks[-1]
    ratios, losses = rng.normal(faster, speed_sd, most), rng.normal(-gain, bpb_sd, most)
    clock = 0.0
    for count in RULE.looks:
        clock = clock_for(ratios[:count].tolist(), clock, RULE)
        timed = losses[:count] - gained(clock)  # b trains e^clock times as long
        pairs = zip(timed.tolist(), ratios[:count].tolist(), strict=True)
        said = verdict(interval([equal_time(t, 0.0, r, clock, MEASURED) for t, r in pairs], RULE), RULE)
        if said != "UNDECIDED":
            break
    return said


def rates(trials: int, **version: float) -> dict[str, float]:
    rng = np.random.default_rng([11, *(int(abs(value) * 1e5) for value in version.values())])
    said = [decide(rng, **version) for _ in range(trials)]
    return {word: said.count(word) / trials for word in ("BETTER", "WORSE", "SAME", "UNDECIDED")}


@pytest.mark.parametrize("bpb_sd", [PAIRED, UNPAIRED])
@pytest.mark.parametrize("speed_sd", SPEEDS)
def test_nothing_is_better_than_itself_in_more_than_one_trial_of_a_hundred(bpb_sd: float, speed_sd: float):
    found = rates(500, gain=0.0, bpb_sd=bpb_sd, speed_sd=speed_sd)
    assert found["BETTER"] <= 0.016 and found["WORSE"] <= 0.016  # at 1 % more than 8 of 500 come once in 300


@pytest.mark.parametrize("faster", [0.045, -0.045, 0.2, -0.2])
@pytest.mark.parametrize("speed_sd", SPEEDS)
def test_speed_that_pays_for_what_is_learnt_less_is_not_better(faster: float, speed_sd: float):
    found = rates(500, gain=-gained(faster), bpb_sd=PAIRED, speed_sd=speed_sd, faster=faster)
    assert found["BETTER"] <= 0.016


def test_the_clock_moves_only_for_what_is_more_than_the_noise_of_the_speeds():
    calm, noisy = [0.03, 0.028, 0.032, 0.03], [0.076, 0.019, -0.045, 0.03]
    assert clock_for(calm, 0.0, RULE) == pytest.approx(0.03) and clock_for(noisy, 0.0, RULE) == 0.0
    assert clock_for(calm, 0.02, RULE) == 0.02
    assert clock_for([ratio + 0.2 for ratio in noisy], 0.0, RULE) == pytest.approx(0.22)


@pytest.mark.parametrize("bpb_sd", [PAIRED, UNPAIRED])
@pytest.mark.parametrize("speed_sd", SPEEDS)
def test_of_a_hundred_ideas_that_are_worth_nothing_research_keeps_one_at_most(bpb_sd: float, speed_sd: float):
    rng = np.random.default_rng([12, int(bpb_sd * 1e5), int(speed_sd * 1e4)])
    for _ in range(5):  # nights
        said = [[decide(rng, 0.0, bpb_sd, speed_sd) for _ in range(TRIALS)] for _ in range(100)]
        assert sum(set(idea) == {"BETTER"} for idea in said) <= 1


@pytest.mark.parametrize(
    ("version", "word", "least"),
    [
        ({"gain": 0.05, "bpb_sd": PAIRED, "speed_sd": 0.02}, "BETTER", 0.95),
        ({"gain": 0.02, "bpb_sd": UNPAIRED, "speed_sd": 0.02}, "BETTER", 0.9),
        ({"gain": 0.005, "bpb_sd": PAIRED, "speed_sd": 0.002}, "BETTER", 0.95),
        ({"gain": 0.0, "bpb_sd": PAIRED, "speed_sd": 0.02, "faster": 0.2}, "BETTER", 0.95),
        ({"gain": 0.02, "bpb_sd": PAIRED, "speed_sd": 0.02, "faster": -0.5}, "WORSE", 0.95),
        ({"gain": 0.0, "bpb_sd": PAIRED, "speed_sd": 0.002}, "SAME", 0.95),
        ({"gain": 0.0, "bpb_sd": UNPAIRED, "speed_sd": 0.06}, "UNDECIDED", 0.9),
    ],
)
def test_what_there_is_is_found(version: dict[str, float], word: str, least: float):
    assert rates(100, **version)[word] >= least


def test_a_calm_handful_does_not_make_a_narrow_interval():
    found = interval([-0.001] * 4, RULE)
    assert found.low < -0.003 and found.high > 0.001 and found.point == -0.001


def test_the_interval_tells_the_verdict():
    words = [verdict(Interval(*ends), RULE) for ends in
             ((-0.02, -0.01, -0.001), (0.001, 0.01, 0.02), (-0.002, 0.0, 0.0029), (-0.004, 0.0, 0.002))]  # fmt: skip
    assert words == ["BETTER", "WORSE", "SAME", "UNDECIDED"]


def test_a_pair_that_was_faster_than_the_clock_has_more_to_gain():
    assert equal_time(1.9, 2.0, math.log(1.1), math.log(1.1), SLOPE) == pytest.approx(-0.1)
    assert equal_time(1.9, 2.0, 0.02, 0.0, SLOPE) == pytest.approx(-0.105)


def test_few_steps_are_refused():
    with pytest.raises(LabError, match="at least 20 steps"):
        TrialRule(steps=12)
