"""Commands and functions in turns: verdicts on planted turns, what is refused, and one real comparison of each."""

import functools
import time

import numpy as np
import pytest

from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.errors import LabError
from autoresearch_lab.gate import commands, compare_calls, compare_commands
from autoresearch_lab.gate.race import Turns, race

RULE = Rule(resamples=300)


def turns(head: float, rounds: int = 10, noise: float = 0.005, load: float | None = 0.0):
    def take(seed: int) -> Turns:
        rng = np.random.default_rng(seed)
        return Turns(np.exp(rng.normal(0, noise, (rounds, 3))) * [1e-3, 1e-3, head * 1e-3], load)

    return take


@pytest.mark.parametrize("rounds", [10, 1])
def test_a_loss_a_gain_and_a_null(rounds):
    def verdict(head: float) -> str:
        return race("x", turns(head, rounds), RULE, 60.0, 0).verdict

    assert (verdict(1.05), verdict(0.9)) == ("SLOWER", "FASTER") and verdict(1.0) in ("SAME", "AMBIGUOUS")


def test_the_ratio_is_that_of_base_to_head():
    found = race("x", turns(0.5), RULE, 60.0, 0)
    assert found.ratio == pytest.approx(2.0, rel=0.01) and found.interval[0] < found.ratio < found.interval[1]
    assert (found.base_seconds, found.head_seconds) == pytest.approx((1e-3, 5e-4), rel=0.02)


def test_what_disturbs_an_arm_of_the_base_does_not_favour_the_head():
    """As in a bench: with the mean of both arms it would, by 0.9 %."""

    def take(seed: int) -> Turns:
        rng = np.random.default_rng(seed)
        hit = (rng.random((10_000, 3)) < 0.2) * rng.exponential(0.5, (10_000, 3))
        return Turns(np.exp(rng.normal(0, 0.03, (10_000, 3)) + hit) * 1e-3, 0.0)

    assert race("x", take, Rule(looks=(4,), resamples=2), 60.0, 0).ratio == pytest.approx(1.0, abs=0.002)


def test_a_busy_machine_is_said():
    found = race("x", turns(1.05, load=0.8), RULE, 60.0, 0)
    assert found.verdict == "AMBIGUOUS" and found.passes and "80% of the machine" in found.reason


def test_the_budget_ends_it_after_the_first_look():
    taken = []

    def take(seed: int) -> Turns:
        taken.append(seed)
        return turns(1.0, noise=0.5)(seed)

    assert race("x", take, RULE, 0.0, 0).verdict == "AMBIGUOUS" and len(taken) == 4


def test_nulls_are_seldom_called_a_difference():
    found = [race("x", turns(1.0, rounds=1, noise=0.02), RULE, 60.0, seed).verdict for seed in range(200)]
    assert sum(verdict in ("FASTER", "SLOWER") for verdict in found) <= 6


def test_a_command_that_fails_is_a_fail_with_its_last_words(tmp_path):
    found = compare_commands("true", "sh -c 'echo one; echo two >&2; exit 3'")
    assert not found.passes and found.reason == "head: exit code 3: two"
    assert compare_commands("no-such-command", "true").reason.startswith("base: no-such-command: No such file")
    for words in ("", "sh -c 'x"):
        with pytest.raises(LabError):
            compare_commands("true", words)


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    mark = tmp_path / "late"
    commands._seconds(["sh", "-c", f"(sleep 0.3; touch {mark}) & true"], "head")
    time.sleep(0.5)
    assert not mark.exists()


def test_what_no_other_process_can_have_is_refused():
    with pytest.raises(LabError, match="another process cannot have this"):
        compare_calls(lambda: None, time.sleep, (0.0,))


@pytest.mark.slow
def test_functions_and_commands_for_real():
    small, large = functools.partial(sum, range(20_000)), functools.partial(sum, range(400_000))
    rule = Rule(looks=(3,), error=0.05)
    found = compare_calls(small, large, budget_seconds=5.0, rule=rule)
    assert found.verdict == "SLOWER" and 0.02 < found.ratio < 0.2
    assert compare_commands("sleep 0.02", "sleep 0.4", budget_seconds=5.0, rule=rule).verdict == "SLOWER"
