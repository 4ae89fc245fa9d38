"""Propose, judge, tell, again: what a proposer gets to know, what is remembered, and what it must not touch."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.propose import loop
from autoresearch_lab.propose.attempts import Budget, history
from autoresearch_lab.propose.command import Command
from autoresearch_lab.propose.loop import propose

RIGHT = {"fast": ("PASS", "FASTER", 2.0), "faster": ("PASS", "FASTER", 3.0), "same": ("PASS", "SAME", 1.0)}


def judge(workspace):
    """By the last line of the kernel: a word that says what it is."""
    word = (workspace.folder / "kernel.py").read_text().splitlines()[-1].removeprefix("# ")
    if word == "unbelievable":
        raise LabFailure("the clocks disagree")
    if word not in RIGHT:
        return SimpleNamespace(verdict="FAIL", results={"reason": "accuracy: " + word}), None
    verified, benched, ratio = RIGHT[word]
    results = {"ratio": ratio, "interval": [ratio - 0.1, ratio + 0.1], "reason": ""}
    return SimpleNamespace(verdict=verified, results={}), SimpleNamespace(verdict=benched, results=results)


def writes(*words):
    """A proposer that writes these kernels, one after the other, and remembers what it was told."""
    left, told = list(words), []

    def proposer(workspace, attempts, budget):
        told.append([(attempt.verify, attempt.bench, attempt.reason) for attempt in attempts])
        if left:
            (workspace.folder / "kernel.py").write_text(f"def rms_norm(x, eps): ...\n# {left.pop(0)}\n")
        return None

    proposer.told = told
    return proposer


@pytest.fixture
def go(opened, context, root, monkeypatch):
    monkeypatch.setattr(loop, "code_digest", Digest())
    context.software["lab"] = "lab"
    workspace, ledger = opened

    def run(proposer, attempts=5, seconds=20.0):
        said = []
        found = propose(
            workspace.folder, proposer, judge, Budget(attempts, seconds), context, root, ledger, said.append
        )
        return found, said

    run.workspace, run.ledger = workspace, ledger
    return run


class Digest:
    value = "lab"

    def __call__(self, package):
        return self.value

    def cache_clear(self):
        pass


def test_each_attempt_knows_what_came_of_the_earlier_ones_and_the_fastest_stays(go):
    proposer = writes("wrong", "faster", "unbelievable", "fast", "same")
    found, said = go(proposer)
    assert [(attempt.verify, attempt.bench) for attempt in found] == [
        ("FAIL", None), ("PASS", "FASTER"), (None, None), ("PASS", "FASTER"), ("PASS", "SAME"),
    ]  # fmt: skip
    assert proposer.told[1] == [("FAIL", None, "accuracy: wrong")]
    assert proposer.told[3][2] == (None, None, "the clocks disagree") and len(proposer.told) == 5
    assert (go.workspace.folder / "kernel.py").read_text().endswith("# faster\n")
    assert said[1] == "rms_norm: attempt 2: FASTER, x3.000"


def test_a_second_run_goes_on_and_the_budget_counts_both(go):
    go(writes("wrong"), attempts=1)
    found, _ = go(writes("fast", "faster", "same"), attempts=3)
    assert [attempt.number for attempt in found] == [1, 2, 3]
    assert history(go.workspace, go.ledger) == found
    assert go(writes("more"), attempts=3)[0] == found


def test_what_a_killed_run_left_unjudged_is_judged_first(go):
    (go.workspace.folder / "kernel.py").write_text("# fast\n")
    proposer = writes()
    found, said = go(proposer)
    assert [attempt.bench for attempt in found] == ["FASTER"]
    assert len(proposer.told) == 1 and said[-1] == "rms_norm: nothing more is proposed"


def test_who_leaves_the_kernel_as_it_was_has_nothing_more_to_propose(go):
    found, said = go(writes())
    assert found == [] and said == ["rms_norm: nothing more is proposed"]
    found, said = go(writes("wrong", "wrong"))
    assert len(found) == 1


def test_a_proposer_that_changes_the_lab_ends_everything(go, monkeypatch):
    class Changed(Digest):
        value = "another"

    monkeypatch.setattr(loop, "code_digest", Changed())
    with pytest.raises(LabFailure, match="changed the lab's own code"):
        go(writes("fast"))
    assert history(go.workspace, go.ledger) == []


def test_a_proposer_that_forges_the_ledger_ends_everything(go):
    def forges(workspace, attempts, budget):
        text = go.ledger.path.read_text()
        go.ledger.path.write_text(text.replace('"rms_norm"', '"rms_norn"'))

    with pytest.raises(LabFailure, match="the ledger is not what the lab wrote"):
        go(forges)


def test_a_proposer_that_changes_what_is_fixed_is_refused(go):
    def cheats(workspace, attempts, budget):
        (workspace.folder / "oracle.py").write_text("")

    with pytest.raises(LabError, match="oracle.py was changed"):
        go(cheats)


def test_a_command_finds_what_it_needs_and_is_told_what_came_of_it(go):
    line = (
        'n=$(grep -c kernel_sha256 attempts.json); echo "$KERNEL_LAB_TARGET in $KERNEL_LAB_WORKSPACE";'
        'test -f "$KERNEL_LAB_CHECKOUT/program.md" && [ $n -lt 2 ] &&'
        ' printf "# fast\\n# same" | head -n $((n + 1)) >kernel.py'
    )
    found, said = go(Command(line), attempts=4)
    assert [attempt.bench for attempt in found] == ["FASTER", "SAME"]
    assert said[-1].startswith("rms_norm: the proposer ended with status 1; see ")
    told = json.loads((go.workspace.folder / "attempts.json").read_text())
    assert told["target"] == "rms_norm" and told["left"]["attempts"] == 2 and told["attempts"][1]["bench"] == "SAME"
    assert f"rms_norm in {go.workspace.folder}" in (go.workspace.folder / "proposer.log").read_text()


def test_a_command_that_takes_too_long_is_ended_and_what_it_wrote_is_judged(go):
    found, said = go(Command("echo '# fast' >kernel.py; sleep 60 & sleep 60"), attempts=1, seconds=1.0)
    assert [attempt.bench for attempt in found] == ["FASTER"] and len(said) == 1
