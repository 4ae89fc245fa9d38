"""The two calls of benchmarks/gpu.sh, rehearsed with a failure planted in each part: the others' results come back, the
table and the archive name what failed, and the second call knows what the first found."""

import json
import tarfile
from types import SimpleNamespace

import pytest

from autoresearch_lab.campaign.gpu import archive, packages, plan
from autoresearch_lab.campaign.gpu.result import (
    BigRows,
    ConfinedStart,
    Counted,
    DatasetFound,
    GpuTests,
    ProfileFound,
    Traced,
    Trained,
    Verified,
)
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.gpu.tries import CHAINS, tries
from autoresearch_lab.campaign.steps import SaidNo, StepFailed, TimeBox
from autoresearch_lab.paths import Root
from benchmarks.gpu import main

COUNTS = {"passed": 3, "failed": 0, "error": 0, "skipped": 0, "lines": [], "unfinished": False}
FOUND = {
    "confined": ConfinedStart(without="", not_enforced=[], found={}, failed={}),
    "data": DatasetFound(folder="", prepared=False),
    "profile": ProfileFound(targets=[]),
    "verify": Verified.model_validate({"a=b": {"verdict": "PASS"}}),
    "bench": plan.GpuResult.FOUND["bench"].model_validate({"a=b": {"verdict": "FASTER"}}),
    "rows": BigRows(**COUNTS),
    "train": Trained(arms={}, chosen=[], rule=""),
    "capture": Traced(steps=1, ranges={}, kernels=[], total_us=None),
    "counters": Counted(kernel="a=b", workload="a-1", launches=[]),
    "tests": GpuTests(**COUNTS),
}
TRIED = [name for chain in CHAINS for name in chain]


@pytest.fixture
def calls(monkeypatch, tmp_path, rehearsed_on, capsys):
    """A call of gpu.sh whose parts only say that they were asked, and in which some break."""
    asked = []
    monkeypatch.setattr(packages, "look", lambda: {"missing": [], "optional": [], "present": []})

    def go(*arguments, broken=(), with_=None):
        def action(name):
            def act(setting, box):
                asked.append(f"first {name}" if setting.first else name)
                if name in broken:
                    raise with_ or ZeroDivisionError(f"planted in {name}")
                return FOUND[name]

            return act

        asked.clear()
        monkeypatch.setattr(plan, "ACTIONS", {name: action(name) for name in FOUND})
        assert main.main(["--rehearse", "--out", str(tmp_path), *arguments]) == 0
        result = json.loads((tmp_path / archive.RESULT).read_text())
        with tarfile.open(tmp_path / archive.ARCHIVE) as packed:
            texts = {name: packed.extractfile(name).read().decode() for name in packed.getnames() if "failures" in name}
        return SimpleNamespace(
            asked=sorted(asked), parts=result["parts"], failures=texts, table=capsys.readouterr().out,
            states={name: part["state"] for name, part in result["parts"].items()},
        )  # fmt: skip

    return go


def test_the_second_call_does_what_the_first_did_not(calls):
    first = calls("--parts", "first")
    assert list(first.states) == list(plan.EVERY_CALL) and set(first.states.values()) == {"done"}
    assert first.asked == sorted([*(f"first {name}" for name in TRIED), *set(plan.EVERY_CALL) - {plan.TRIES}])
    second = calls("--parts", "second")
    assert list(second.states) == [*plan.EVERY_CALL, "rows", "train", "capture", "counters", "tests"]
    assert not [name for name in second.asked if name.startswith("first")]
    again = calls("--parts", "second")
    assert set(again.states) == set(plan.EVERY_CALL), "what is done once is not done again"
    assert calls("--parts", "rows").asked == ["rows"], "but by name"


@pytest.mark.parametrize("broken", FOUND)
def test_what_breaks_costs_the_others_nothing_and_is_named(calls, broken, monkeypatch):
    first, second = (calls("--parts", name, broken=[broken]) for name in ("first", "second"))
    # Verdicts need jobs that start, and numbers need data; what a first try rests on is tried first.
    judging = {plan.TRIES, "verify", "bench"}
    resting = {"confined": judging, "data": {*judging, "profile", "train", "capture"}}.get(broken, set())
    if broken in TRIED:
        chain = next(chain for chain in CHAINS if broken in chain)
        resting = {name for name in chain[chain.index(broken) + 1 :]}
    for call in (first, second):
        wrong = {name for name, state in call.states.items() if state != "done"}
        assert wrong == ({broken} | resting) & set(call.states)
        assert f"planted in {broken}" in call.table and f"{broken}: failed" in call.table
    for call in (first, second) if broken in ("confined", "data") else (first,):
        (text,) = [text for text in call.failures.values() if f"planted in {broken}" in text]
        assert "Traceback (most recent call last)" in text and "ZeroDivisionError" in text
    # What failed in a first try has no full time, and is not tried again while the code is the same.
    assert broken in ("confined", "data") or not {broken, f"first {broken}"} & set(second.asked)
    monkeypatch.setattr(plan, "_code", lambda: "mended")
    mended = calls("--parts", "second")
    assert set(mended.states.values()) == {"done"} and {broken} | resting <= set(mended.states)


def test_a_first_try_that_says_no_keeps_no_part_from_its_time(calls):
    first = calls("--parts", "first", broken=["bench"], with_=SaidNo("a=b: FAIL"))
    assert first.states["bench"] == "negative" and "first try, bench: negative: a=b: FAIL" in first.table
    assert "bench" in first.asked


def test_a_first_try_that_had_too_little_time_is_not_taken_for_broken(tmp_path):
    def slow(setting, box):
        raise StepFailed("out of time")

    setting = Setting(tmp_path, Root(tmp_path), rehearse=True)
    tried = tries(dict.fromkeys(FOUND, slow), {}, setting, TimeBox.of(0.0)).root
    assert {end.state for end in tried.values()} == {"negative"}


def test_what_a_failed_command_printed_is_kept_whole(calls):
    failure = StepFailed("exit code 1: error: last line", 1, "first line\n" * 500 + "last line\n")
    text = "".join(calls("--parts", "first", broken=["profile"], with_=failure).failures.values())
    assert text.count("first line") == 500
