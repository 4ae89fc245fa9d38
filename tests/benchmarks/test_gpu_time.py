"""How the nine minutes of benchmarks/gpu.sh are shared out."""

import os
import time

import pytest

from autoresearch_lab.campaign.driver import time_for
from autoresearch_lab.campaign.gpu import packages, plan
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.steps import StepEnd
from autoresearch_lab.paths import CHECKOUT, Root
from benchmarks.gpu import main

PARTS = plan.parts(Setting(CHECKOUT, Root()))


def test_every_part_has_its_reserve_however_long_the_others_take():
    """The nine minutes less what unpacking may take: bench comes before train, and train, tests too, have time left."""
    names = [part.name for part in PARTS]
    assert names.index("bench") < names.index("train") < names.index("tests")
    assert sum(part.reserve for part in PARTS) <= plan.SECONDS - plan.CLOSING_SECONDS
    assert next(part for part in PARTS if part.name == "tests").reserve >= 20
    left = plan.SECONDS - 10.0 - 15.0  # what is kept for the result; what unpacking took
    for number, part in enumerate(PARTS):
        limit = time_for(part, PARTS[number + 1 :], left, 1.0)
        assert limit >= part.reserve, part.name
        left -= limit


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
    assert script.index(f"{plan.BEGAN}=$(date +%s)") < script.index("pip install")


def test_where_the_start_took_long_every_part_is_shorter_and_none_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv(plan.BEGAN, str(time.time() - 200))
    given = timed_parts(monkeypatch, tmp_path)
    assert set(given) == {part.name for part in PARTS} and min(given.values()) > 5
