"""Which calls are checked."""

import random

import pytest

from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.sampling import Sampler, SharedSampler, likely_at_most, parse_rate


def test_each_call_is_drawn_with_the_same_probability_and_nobodys_random_numbers():
    before = random.getstate()
    sampler = Sampler(0.2)
    drawn = sum(sampler.draw("rope") for _ in range(20_000))
    assert 3600 < drawn < 4400 and random.getstate() == before  # 7 standard deviations
    other = Sampler(0.2)
    assert [sampler.draw("rope") for _ in range(200)] != [other.draw("rope") for _ in range(200)]
    assert Sampler(1.0).draw("rope") and Sampler(1.0).draw_step()


def test_a_shared_sampler_spends_its_share_in_equal_parts():
    sampler = SharedSampler(0.5)
    calls = {"rope": 0, "loss_head": 0}
    for _ in range(4):
        calls = {"rope": calls["rope"] + 10, "loss_head": calls["loss_head"] + 1}
        sampler.end_step(1.0, calls)
    assert sampler.rate("rope") == 0.1 and sampler.rate("loss_head") == 1.0  # one in a step, until its cost is known
    for target, seconds in (("rope", 9.0), ("rope", 0.05), ("loss_head", 2.5), ("loss_head", 2.5)):
        sampler.spent(target, seconds)  # the first check of all allocates, and does not count
    sampler.end_step(1.0, {"rope": 50, "loss_head": 5})
    # A quarter of a second each in a step: 5 of 10 calls, and one call of loss_head in ten steps.
    assert sampler.rate("rope") == pytest.approx(0.5) and sampler.rate("loss_head") == pytest.approx(0.1)


def test_what_a_target_does_not_need_is_the_others():
    sampler = SharedSampler(1.0)
    calls = {"rope": 10, "loss_head": 1}
    sampler.end_step(1.0, calls)
    for target, seconds in (("rope", 0.01), ("rope", 0.01), ("loss_head", 1.8), ("loss_head", 1.8)):
        sampler.spent(target, seconds)
    sampler.end_step(1.0, {"rope": 20, "loss_head": 2})
    assert sampler.rate("rope") == 1.0 and sampler.rate("loss_head") == pytest.approx(0.5)


def test_the_rule_of_three():
    assert likely_at_most(0) is None and likely_at_most(2) == 1.0 and likely_at_most(300) == 0.01
    assert (1 - likely_at_most(300)) ** 300 == pytest.approx(0.05, rel=0.02)


def test_a_share_is_written_in_two_ways():
    assert parse_rate("1%") == parse_rate("0.01") == 0.01 and parse_rate("100%") == 1.0
    for text in ("0", "0%", "101%", "2", "-1%", "much", "nan"):
        with pytest.raises(ConfigError, match="no share of calls"):
            parse_rate(text)
