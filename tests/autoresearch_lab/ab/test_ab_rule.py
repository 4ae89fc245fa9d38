"""The A/B rule: each gate by itself, and the error rates of the whole on the measured noise."""

import math

import numpy as np
import pytest

from autoresearch_lab.ab import rule
from autoresearch_lab.ab.rule import GateState
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.errors import LabError

SETTINGS = Settings()
BPB_SD = 0.0013  # s.d. of paired val_bpb differences under one-ulp changes
BPB_PER_SPEED = 0.25  # bits per byte per unit of relative speed: 1 % more tokens = .0025


def decide(rng: np.random.Generator, gain: float, ratio_sd: float, harm: float = 0.0) -> tuple[str, int]:
    """(verdict, look) of one simulated A/B of a kernel that is `gain` faster and costs `harm` bits per byte."""
    most = SETTINGS.looks[-1]
    ratios = rng.normal(math.log1p(gain), ratio_sd, most)
    equal_tokens = rng.normal(harm, BPB_SD, most)
    noise = rng.normal(0.0, BPB_SD, most)
    for look, count in enumerate(SETTINGS.looks, start=1):
        speed = rule.speed_gate(ratios[:count], SETTINGS)
        gates = [speed]
        if speed.state is GateState.PASS:
            lower = speed.numbers.lower
            seeds = SETTINGS.clear_seeds if lower >= SETTINGS.clear_speed and look == 1 else count
            more = rule.equal_time_steps(SETTINGS.steps, lower) / SETTINGS.steps - 1
            gates.append(rule.loss_gate("neutral", equal_tokens[:count], SETTINGS))
            gates.append(rule.loss_gate("benefit", noise[:seeds] + harm - BPB_PER_SPEED * more, SETTINGS))
        verdict, _ = rule.verdict(gates, complete=len(gates) == 3)
        if verdict != "UNDECIDED":
            return verdict, look
    return verdict, look


def rate(wanted: str, gain: float, ratio_sd: float, harm: float = 0.0, trials: int = 1500, look: int = 2) -> float:
    rng = np.random.default_rng([7, int(gain * 1000), int(ratio_sd * 1000), int(harm * 1e5)])
    outcomes = [decide(rng, gain, ratio_sd, harm) for _ in range(trials)]
    return sum(verdict == wanted and at <= look for verdict, at in outcomes) / trials


@pytest.mark.parametrize("ratio_sd", [0.0025, 0.015, 0.06])
@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_no_gain_is_hardly_ever_promoted(gain: float, ratio_sd: float) -> None:
    assert rate("PROMOTE", gain, ratio_sd) <= 0.01


@pytest.mark.parametrize(
    ("gain", "ratio_sd", "first", "both"),
    [(0.03, 0.0025, 0.80, 0.95), (0.10, 0.015, 0.75, 0.95), (0.50, 0.015, 0.80, 0.95), (0.50, 0.06, 0.75, 0.95)],
)
def test_power(gain: float, ratio_sd: float, first: float, both: float) -> None:
    assert rate("PROMOTE", gain, ratio_sd, trials=400, look=1) >= first
    assert rate("PROMOTE", gain, ratio_sd, trials=400) >= both


def test_small_gain_in_a_noisy_ratio_is_left_undecided_or_rejected_not_promoted() -> None:
    assert rate("PROMOTE", 0.03, 0.06, trials=400) <= 0.05


@pytest.mark.parametrize("harm", [0.003, 0.006])
def test_harm_at_the_margin_is_hardly_ever_promoted(harm: float) -> None:
    assert rate("PROMOTE", 0.5, 0.015, harm=harm) <= 0.01


def test_later_attempts_together_stay_below_twice_the_error() -> None:
    levels = [SETTINGS.at_attempt(attempt).alpha for attempt in range(1, 30)]
    assert levels[0] == SETTINGS.alpha and sum(levels) < 2 * SETTINGS.alpha


def test_speed_gate() -> None:
    assert rule.speed_gate(np.log([1.50, 1.52, 1.49, 1.51]), SETTINGS).state is GateState.PASS
    assert rule.speed_gate(np.log([1.001, 0.999, 1.0, 1.002]), SETTINGS).state is GateState.FAIL
    assert rule.speed_gate(np.log([0.90, 0.91]), SETTINGS).state is GateState.FAIL
    noisy = rule.speed_gate(np.log([1.2, 1.0, 1.1, 0.95]), SETTINGS)
    assert noisy.state is GateState.OPEN and "too noisy" in noisy.note
    # the bound by hand: t(.995, 3) = 5.841
    values = np.log([1.50, 1.52, 1.49, 1.51])
    expected = math.exp(values.mean() - 5.841 * values.std(ddof=1) / 2)
    assert rule.speed_gate(values, SETTINGS).numbers.lower == pytest.approx(expected, rel=1e-4)


def test_loss_gate_uses_the_measured_floor() -> None:
    calm = rule.loss_gate("neutral", [0.0, 0.0, 0.0, 0.0], SETTINGS)
    # t(.995, 17) = 2.898
    assert calm.numbers.upper == pytest.approx(2.898 * 0.0013 / 2, rel=1e-3)
    assert calm.state is GateState.PASS
    assert rule.loss_gate("neutral", [0.002, 0.002, 0.002, 0.002], SETTINGS).state is GateState.OPEN
    assert rule.loss_gate("neutral", [0.02, 0.021, 0.019, 0.02], SETTINGS).state is GateState.FAIL
    assert rule.loss_gate("benefit", [-0.02, -0.02], SETTINGS).state is GateState.PASS


def test_divergence_gate() -> None:
    course = np.geomspace(2e-5, 2e-3, 20)
    control = [course, -course, course]
    same = rule.divergence_gate([2 * course, course], control, SETTINGS)
    assert same.state is GateState.PASS and len(same.numbers.stretches) == 3
    assert rule.divergence_gate([10 * course, 10 * course], control, SETTINGS).state is GateState.FAIL
    early = course.copy()
    early[:5] *= 30  # hidden in the whole course's sum, plain in its first stretch
    assert rule.divergence_gate([early, early], control, SETTINGS).state is GateState.FAIL
    assert rule.divergence_gate([[math.nan] * 20], control, SETTINGS).state is GateState.FAIL
    assert rule.divergence_gate([[0.0] * 20], control, SETTINGS).numbers.ratio == 0.0
    unmoved = rule.divergence_gate([[5e-5] * 20], [[0.0] * 20], SETTINGS)
    assert unmoved.state is GateState.PASS and math.isfinite(unmoved.numbers.ratio)


def test_one_seed_does_not_decide_the_divergence() -> None:
    course = np.geomspace(2e-5, 2e-3, 20)
    control = [course, -course, course, course]
    assert rule.divergence_gate([course, course, course, 50 * course], control, SETTINGS).state is GateState.PASS
    assert rule.divergence_gate([course, course, 50 * course, 50 * course], control, SETTINGS).state is GateState.FAIL
    assert rule.divergence_gate([course, 50 * course], control[:2], SETTINGS).state is GateState.FAIL
    # Nor does a control that hardly moves with one seed.
    still = [course * 1e-3, course, course, course]
    assert rule.divergence_gate([course, course, course, course], still, SETTINGS).state is GateState.PASS


def test_gain_gate() -> None:
    assert rule.gain_gate(1.5, None, SETTINGS).state is GateState.PASS
    assert rule.gain_gate(1.5, 0.4, SETTINGS).state is GateState.PASS
    refused = rule.gain_gate(1.08, 0.4, SETTINGS)
    assert refused.state is GateState.FAIL and "under half" in refused.note
    assert rule.gain_gate(1.02, 0.05, SETTINGS).state is GateState.PASS  # within what can be resolved


def test_verdict() -> None:
    good = rule.gain_gate(1.5, None, SETTINGS)
    bad = rule.gain_gate(1.01, 0.5, SETTINGS)
    noisy = rule.speed_gate(np.log([1.2, 1.0, 1.1, 0.95]), SETTINGS)
    assert rule.verdict([good], complete=True)[0] == "PROMOTE"
    assert rule.verdict([good, bad, noisy], complete=False)[0] == "REJECT"
    assert rule.verdict([good, noisy], complete=False)[0] == "UNDECIDED"
    with pytest.raises(ValueError, match="all gates"):
        rule.verdict([good], complete=False)


def test_equal_time_steps() -> None:
    assert rule.equal_time_steps(100, 1.487) == 148


@pytest.mark.parametrize("bad", [{"looks": (1,)}, {"looks": (6, 4)}, {"alpha": 0.7}, {"steps": 0}, {"margin": 0}])
def test_settings_out_of_range(bad: dict) -> None:
    with pytest.raises(LabError, match=next(iter(bad))):
        Settings(**bad)
