"""How the minutes of benchmarks/gpu.sh are shared out."""

import os
import time

import pytest

from autoresearch_lab.campaign.driver import time_for
from autoresearch_lab.campaign.gpu import packages, plan
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.steps import StepEnd
from autoresearch_lab.paths import CHECKOUT, Root
from benchmarks.gpu import main

PARTS = plan.parts(Setting(CHECKOUT, Root()), plan.Known(device=None))
USUAL = {"": plan.SECONDS, **{name: seconds for name, (_, seconds) in plan.CALLS.items()}}


@pytest.mark.parametrize("call", USUAL)
def test_every_part_has_its_share_however_long_the_others_take(call):
    """The seconds of a call less what unpacking may take: bench comes before train, and train, tests too, have time
    left; in the second of two calls what the first did takes none."""
    done = plan.EVERY_CALL[:-2] if call == "second" else ()
    steps = [step for step in plan.chosen(PARTS, plan.CALLS.get(call, (None, 0))[0], ()) if step.name not in done]
    left = USUAL[call] - plan.CLOSING_SECONDS - 15.0  # what is kept for the result; what unpacking took
    scale = min(1.0, left / sum(step.reserve for step in steps))
    assert scale > 0.7, "too little for all"
    for number, step in enumerate(steps):
        limit = time_for(step, steps[number + 1 :], left, scale)
        assert limit >= scale * step.reserve - 1e-6, step.name
        left -= limit


def test_two_calls_and_what_lies_between_them_fit_into_a_quarter_of_an_hour():
    assert sum(USUAL[call] for call in plan.CALLS) + 2 * 90 <= 15 * 60


def test_the_driver_itself_ends_what_keeps_to_no_time():
    assert [part.name for part in PARTS if part.interrupt] == ["counters"]


@pytest.fixture(autouse=True)
def a_cpu(rehearsed_on):
    """Nobody asks which."""


def timed_parts(monkeypatch, tmp_path, *arguments) -> dict[str, float]:
    """{part: the seconds that it was given}, of parts that take none."""
    given = {}

    def of(name):
        return lambda setting, box: given.setdefault(name, box.left) and StepEnd(step=name)

    monkeypatch.setattr(packages, "look", lambda: {"missing": [], "optional": [], "present": []})
    monkeypatch.setattr(plan, "ACTIONS", {name: of(name) for name in plan.ACTIONS})
    monkeypatch.setattr(plan, "tries", lambda actions, known, setting, box: of(plan.TRIES)(setting, box))
    assert main.main(["--rehearse", "--out", str(tmp_path), *arguments]) == 0
    return given


def test_the_time_counts_from_the_start_of_the_shell(monkeypatch, tmp_path):
    monkeypatch.delenv(plan.BEGAN, raising=False)
    alone = timed_parts(monkeypatch, tmp_path, "--parts", "bench,train", "--seconds", "200")["train"]
    monkeypatch.setenv(plan.BEGAN, str(time.time() - 100))
    late = timed_parts(monkeypatch, tmp_path, "--parts", "bench,train", "--seconds", "200")["train"]
    assert late == pytest.approx(alone - 100, abs=15)
    assert plan.BEGAN not in os.environ  # another call is not this one's
    script = (CHECKOUT / "benchmarks" / "gpu.sh").read_text()
    assert script.index("$(date +%s)") < script.index("pip install")


def test_where_the_start_took_long_every_part_is_shorter_and_none_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv(plan.BEGAN, str(time.time() - 200))
    given = timed_parts(monkeypatch, tmp_path)
    assert set(given) == {part.name for part in PARTS} and min(given.values()) > 5
