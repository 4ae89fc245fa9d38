"""Propose, judge, tell, again: what a proposer gets to know, what is remembered, and what it must not touch."""

from __future__ import annotations

import json
from types import SimpleNamespace

import psutil
import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.propose import loop
from autoresearch_lab.propose.attempts import Budget, history
from autoresearch_lab.propose.command import CannotStart, Command
from autoresearch_lab.propose.loop import propose
from autoresearch_lab.results.bench import BenchResults
from autoresearch_lab.results.record import BenchRecord, VerifyRecord
from autoresearch_lab.results.verify import VerifyResults

# verdict of the bench, ratio, half its interval
RIGHT = {
    "fast": ("FASTER", 2.0, 0.1),
    "faster": ("FASTER", 3.0, 0.1),
    "lucky": ("FASTER", 4.0, 2.5),
    "same": ("SAME", 1.0, 0.1),
    "greedy": ("FASTER", 2.0, 0.1),
}


def judge(workspace, of):
    """By the last line of the kernel: a word that says what it is."""
    word = (workspace.folder / "kernel.py").read_text().splitlines()[-1].removeprefix("# ")
    if word == "unbelievable" and of is BenchRecord:
        raise LabFailure("the clocks disagree")
    if of is VerifyRecord:
        right = word in RIGHT or word == "unbelievable"
        found = VerifyResults(reason="" if right else "accuracy", diet=["imports os"] if word == "greedy" else [])
        return SimpleNamespace(verdict="PASS" if right else "FAIL", results=found)
    verdict, ratio, half = RIGHT[word]
    return SimpleNamespace(verdict=verdict, results=BenchResults(ratio=ratio, interval=(ratio - half, ratio + half)))


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
            workspace.folder, proposer, judge, Budget(attempts, seconds), Lab.of(context, root, ledger), said.append
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


def now(go):
    return (go.workspace.folder / "kernel.py").read_text().splitlines()[-1].removeprefix("# ")


def test_each_attempt_knows_what_came_of_the_earlier_ones_and_the_surest_stays(go):
    proposer = writes("wrong", "faster", "unbelievable", "lucky", "same")
    found, said = go(proposer)
    assert [(attempt.verify, attempt.bench) for attempt in found] == [
        ("FAIL", None), ("PASS", "FASTER"), ("PASS", None), ("PASS", "FASTER"), ("PASS", "SAME"),
    ]  # fmt: skip
    assert proposer.told[1] == [("FAIL", None, "accuracy")]
    assert proposer.told[3][2] == ("PASS", None, "the clocks disagree") and len(proposer.told) == 5
    assert now(go) == "faster"
    assert said[1:3] == [
        "rms_norm: attempt 2: FASTER, 3.00×", "rms_norm: attempt 3: PASS, not timed: the clocks disagree",
    ]  # fmt: skip


def test_a_fast_kernel_that_goes_beyond_its_diet_is_told_so(go):
    (attempt,), _ = go(writes("greedy"))
    assert attempt.bench == "FASTER"
    assert attempt.reason == "beyond a kernel's diet, so promoted only if a person allows it: imports os"


def test_a_kernel_that_came_to_no_verdict_is_not_left_behind(go):
    go(writes("same", "unbelievable"), attempts=2)
    assert now(go) == "same"


def test_where_nothing_came_to_a_verdict_the_baseline_is_left(go):
    def native(workspace, attempts, budget):
        (workspace.folder / "kernel.cpp").write_text("//")
        (workspace.folder / "kernel.py").write_text("# unbelievable\n")

    go(native, attempts=1)
    assert (go.workspace.folder / "kernel.py").read_bytes() == (go.workspace.folder / "baseline.py").read_bytes()
    assert not (go.workspace.folder / "kernel.cpp").exists()


def test_a_kernel_that_nobody_judged_is_not_overwritten(go):
    go(writes("fast"), attempts=1)
    (go.workspace.folder / "kernel.py").write_text("# mine\n")
    _, said = go(writes("faster"), attempts=1)
    assert now(go) == "mine" and "is not judged yet" in said[-1]

    def gives_up(workspace, attempts, budget):
        (workspace.folder / "kernel.py").write_text("# half-done\n")
        return "no idea"

    _, said = go(gives_up)
    assert now(go) == "half-done" and said[-2:] == [
        "rms_norm: no idea", f"rms_norm: the kernel in {go.workspace.folder} is not judged yet",
    ]  # fmt: skip


def test_a_copy_that_was_changed_is_not_taken_for_what_was_judged(go):
    def cheats(workspace, attempts, budget):
        if not attempts:
            (workspace.folder / "kernel.py").write_text("# fast\n")
        else:
            (workspace.folder / "attempts" / "1" / "kernel.py").write_text("# something else\n")

    with pytest.raises(LabFailure, match="is not the kernel that was judged as attempt 1"):
        go(cheats)
    assert now(go) == "fast"


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


def test_a_proposer_that_cuts_the_ledger_ends_everything(go):
    def cuts(workspace, attempts, budget):
        lines = go.ledger.path.read_text().splitlines(keepends=True)
        go.ledger.path.write_text("".join(lines[:-1]))

    go(writes("fast"), attempts=1)
    with pytest.raises(LabFailure, match="the newest 1 of 2 records are gone"):
        go(cuts)


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
    line = "echo '# fast' >kernel.py; sleep 60 & echo $! >child; sleep 60"
    found, said = go(Command(line), attempts=1, seconds=1.0)
    assert [attempt.bench for attempt in found] == ["FASTER"] and len(said) == 1
    child = int((go.workspace.folder / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("line", ["no-such-agent --fast", "./README.md"])
def test_a_command_that_cannot_be_started_is_bad_input_and_not_given_up(go, line):
    with pytest.raises(CannotStart, match="cannot be started: .*(not found|denied)"):
        go(Command(line))
