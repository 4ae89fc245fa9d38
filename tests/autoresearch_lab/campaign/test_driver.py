"""The driver: shares of the time, what failing steps leave standing, and how steps that take too long are ended."""

import subprocess
import sys
import time

import pytest

from autoresearch_lab.campaign.command import python, run_command
from autoresearch_lab.campaign.driver import attempt, time_for, walk
from autoresearch_lab.campaign.steps import CampaignStep, SaidNo, StepEnd, StepFailed, TimeBox
from autoresearch_lab.errors import LabError, LabFailure


def raising(error):
    def action(box):
        raise error

    return action


def walked(steps, clock=None):
    ends: dict[str, StepEnd] = {}
    told: list[str] = []
    walk(
        steps, clock or TimeBox.of(float("inf")), ends, lambda number, step: told.append(f"{number} {step.name}"),
        lambda step, end: told.append(f"{step.name} {end.state}"),
    )  # fmt: skip
    return ends, told


@pytest.mark.parametrize(
    ("error", "state", "code", "reason"),
    [
        (SaidNo("not faster"), "negative", 1, "not faster"),
        (StepFailed("exit code 7: no", 7), "failed", 7, "exit code 7: no"),
        (StepFailed("out of time", None), "failed", None, "out of time"),
        (LabError("no such\nthing"), "failed", 2, "no such thing"),
        (LabFailure("crashed"), "failed", 1, "crashed"),
        (ZeroDivisionError("x"), "failed", 1, "ZeroDivisionError: x (test_driver.py:"),
    ],
)
def test_however_a_step_ends_it_is_told_and_the_next_is_done(error, state, code, reason):
    ends, told = walked([CampaignStep("a", raising(error)), CampaignStep("b", lambda box: None)])
    assert (ends["a"].state, ends["a"].exit_code) == (state, code) and ends["a"].reason.startswith(reason)
    assert told == ["1 a", f"a {state}", "2 b", "b done"]


def test_what_needs_a_failed_step_is_skipped_and_a_negative_answer_is_one():
    steps = [
        CampaignStep("a", raising(StepFailed("no"))),
        CampaignStep("b", raising(SaidNo("no"))),
        CampaignStep("c", lambda box: None, needs=("b", "not among them")),
        CampaignStep("d", lambda box: None, needs=("a",)),
        CampaignStep("e", lambda box: None, needs=("d",)),
    ]
    ends, _ = walked(steps)
    assert [end.state for end in ends.values()] == ["failed", "negative", "done", "skipped", "skipped"]
    assert ends["e"].reason == "without d it cannot be done"


def test_each_step_leaves_the_others_their_reserves():
    first, later = CampaignStep("a", lambda box: None, most=100), [CampaignStep("b", lambda box: None, reserve=30)]
    assert time_for(first, later, 200, 1.0) == 100 and time_for(first, later, 90, 1.0) == 60
    assert time_for(first, later, 90, 0.5) == 75
    given = []
    every = [CampaignStep(name, lambda box: given.append(box.left), reserve=50) for name in "abc"]
    walked(every, TimeBox.of(30))
    assert given == pytest.approx([10, 20, 30], abs=0.5)  # none took any
    given.clear()
    walked(every)
    assert given == [float("inf")] * 3


def test_a_step_that_takes_too_long_is_interrupted_and_its_children_end():
    seen = []

    def slow(box):
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
            seen.append(child)
            try:
                child.wait()
            except BaseException:
                child.kill()
                raise

    began = time.monotonic()
    end = attempt(CampaignStep("a", slow, interrupt=True), 1.2)
    assert time.monotonic() - began < 20 and (end.state, end.exit_code) == ("failed", None)
    assert end.reason.startswith("out of time after") and seen[0].returncode is not None
    time.sleep(0.1)
    assert attempt(CampaignStep("a", lambda box: None), 0.5).reason == "no time left"


def test_an_interrupted_campaign_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        walked([CampaignStep("a", raising(KeyboardInterrupt()))])


def test_a_command_says_why_it_failed():
    program = "import sys; print('x', file=sys.stderr); sys.exit('error: bad preset')"
    done = run_command(python("-c", program), TimeBox.of(60))
    assert done.code == 1 and done.reason == "exit code 1: error: bad preset"
    with pytest.raises(StepFailed, match="exit code 1: error: bad preset"):
        done.require()
    with pytest.raises(SaidNo):
        done.require(negative=True)
    assert run_command(python("-c", "print('{}')"), TimeBox.of(60)).require().json() == {}
    assert run_command(python("-c", ""), TimeBox.of(0.5)).code is None
