"""A whole trial with trainings that answer at once: its verdicts, its budget, its record, and what a kill leaves."""

import json
import shutil
from types import SimpleNamespace

import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lookup import everything, newest_verdicts
from autoresearch_lab.report.brief import brief, subject
from autoresearch_lab.results.record import VersionRecord
from autoresearch_lab.versions import training
from autoresearch_lab.versions.rule import TrialRule

from .conftest import STEP_SECONDS, TOKENS


def test_a_better_version_is_found_at_the_first_look(here: SimpleNamespace):
    here.commit()
    here.commit(bpb=1.9)
    record = here.trial("HEAD~1", "HEAD")
    found = record.results
    assert record.verdict == "BETTER" and found.look == 1 and found.lower < -0.1 < found.upper < 0
    assert record.settings.steps == {"a": 100, "b": 100} and found.timed_steps == 100
    assert found.slope == pytest.approx(0.25, abs=0.01) and found.peak_memory_mb == {"a": 512.0, "b": 512.0}
    # A short training of each, four pairs, and one more of side a for the slope.
    assert [steps for _, steps in here.stub.asked] == [22, 22, *([100] * 8), 80]
    first = [tree for tree, _ in here.stub.asked[2:10]]
    assert first[0] == first[3] == first[4] == first[7] != first[1], "each side begins every other pair"


def test_what_the_turns_disturb_is_not_in_the_speeds(here: SimpleNamespace):
    here.stub.noise = 0.0
    here.commit()
    here.commit(speed=1.02)
    found = here.trial("HEAD~1", "HEAD").results
    assert found.tokens_per_second["a"] == pytest.approx(TOKENS / STEP_SECONDS)
    assert found.tokens_per_second["b"] == pytest.approx(1.02 * TOKENS / STEP_SECONDS)
    assert here.stub.in_turns == 8


@pytest.mark.parametrize(("mb_free", "steps", "in_turns"), [(1600, 60, 8), (1500, 60, 0), (1600, 59, 0)])
def test_sides_take_turns_where_both_have_memory_and_time(here: SimpleNamespace, monkeypatch, mb_free, steps, in_turns):
    monkeypatch.setattr(training, "system_bytes", lambda: mb_free * 2**20)
    here.commit()
    here.commit(bpb=1.9)
    assert here.trial("HEAD~1", "HEAD", rule=TrialRule(steps=steps)).verdict == "BETTER"
    assert here.stub.in_turns == in_turns


def test_trainings_that_are_over_before_their_turns_are_made_again_one_by_one(here: SimpleNamespace, monkeypatch):
    monkeypatch.setattr(training, "settled", lambda *steps: [])
    here.commit()
    here.commit(bpb=1.9)
    assert here.trial("HEAD~1", "HEAD").verdict == "BETTER"
    assert here.stub.in_turns == 2 and len(here.stub.asked) == 13


def test_a_worse_version_is_found(here: SimpleNamespace):
    here.commit()
    here.commit(bpb=2.1)
    assert here.trial("HEAD~1", "HEAD").verdict == "WORSE"


@pytest.mark.parametrize("seed", range(3))
def test_a_version_that_does_the_same_is_never_better(here: SimpleNamespace, seed: int):
    here.stub.noise = (0.001, 0.01, 0.05)[seed]
    here.commit()
    here.commit(comment="x")
    assert here.trial("HEAD~1", "HEAD", rule=TrialRule(seed=7 + seed)).verdict in ("SAME", "UNDECIDED")


def test_speed_counts_by_the_virtual_clock(here: SimpleNamespace):
    here.commit()
    here.commit(speed=1.5)
    record = here.trial("HEAD~1", "HEAD")
    assert record.verdict == "BETTER" and 145 <= record.results.timed_steps <= 155
    assert abs(record.results.tokens_delta) < 0.002 and record.results.delta == pytest.approx(-0.101, abs=0.01)
    slower = here.trial("HEAD", "HEAD~1")
    assert slower.verdict == "WORSE" and slower.results.ratio == pytest.approx(1 / 1.5, rel=0.02)


def test_larger_steps_make_fewer_for_the_same_tokens(here: SimpleNamespace):
    here.commit()
    here.commit(tokens=4096)
    record = here.trial("HEAD~1", "HEAD")
    assert record.settings.steps == {"a": 100, "b": 50}
    # Steps of the stub take one time whatever their size, so this side is twice as fast; it learns by steps alone.
    assert record.results.ratio == pytest.approx(2, rel=0.05) and 95 <= record.results.timed_steps <= 105
    with pytest.raises(LabError, match="side b makes 10 steps of 20480 tokens meanwhile: give more --steps"):
        here.trial("HEAD~1", "HEAD tokens=20480")


def test_options_are_a_side(here: SimpleNamespace):
    here.commit()
    record = here.trial("HEAD", "HEAD bpb=1.8")
    assert record.verdict == "BETTER" and record.settings.b.options == {"bpb": "1.8"}
    assert record.settings.a.tree == record.settings.b.tree


def test_numbers_of_the_optimizer_need_no_clock(here: SimpleNamespace):
    here.stub.noise, here.stub.load = 0.5, 0.9
    here.commit()
    record = here.trial("HEAD", "HEAD matrix_lr=0.03")
    assert record.verdict == "SAME" and record.results.delta == 0 and len(here.stub.asked) == 10
    assert "equal tokens are equal time" in record.results.remarks[0] and not record.results.disturbed
    assert here.trial("HEAD", "HEAD").verdict == "SAME"


@pytest.mark.parametrize(
    ("how", "kind", "note"),
    [("crash", "crash", "NameError"), ("memory", "out_of_memory", "batch of 8"), ("killed", "out_of_memory", "SIGKILL"),
     ("diverged", "diverged", "loss is nan"), ("hung", "hung", "no end within 7 s")],
)  # fmt: skip
def test_a_side_that_does_not_train_is_told_apart(here: SimpleNamespace, how: str, kind: str, note: str):
    here.commit()
    here.commit(fails=how)
    record = here.trial("HEAD~1", "HEAD")
    assert record.verdict == "WORSE" and (record.results.failed.side, record.results.failed.kind) == ("b", kind)
    assert note in record.results.reason and "its output is in" in record.results.remarks[0]
    other = here.trial("HEAD", "HEAD~1")
    assert other.verdict == "UNDECIDED" and other.results.failed.side == "a"
    assert here.trial("HEAD~1", "HEAD").id != record.id, "what failed may be tried again"


def test_a_set_up_that_fails_is_nobodys_fault_and_leaves_no_record(here: SimpleNamespace):
    here.commit()
    here.commit(fails="crash")
    here.stub.reference_trains = False
    with pytest.raises(LabFailure, match="the set-up failed, not side b: .*no space left"):
        here.trial("HEAD~1", "HEAD")
    assert here.lab.ledger.count() == 0


def test_an_option_that_a_side_refuses_is_bad_input(here: SimpleNamespace):
    here.commit()
    with pytest.raises(LabError, match="side b: cannot set 'nonsense'"):
        here.trial("HEAD", "refuses=1")


def test_a_killed_trial_goes_on_and_ends_as_if_nothing_had_been(here: SimpleNamespace):
    here.stub.noise = 0.0
    here.commit()
    here.commit(bpb=1.9)
    here.stub.dies_after = 5
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            here.trial("HEAD~1", "HEAD")
        here.stub.dies_after = 8
    here.stub.dies_after = None
    killed = here.trial("HEAD~1", "HEAD")
    # Of a pair that takes turns both are begun again: one training more, each time.
    assert len(here.stub.asked) == 13 and killed.results.reused == 6 and here.stub.in_turns == 12
    for folder in ("cache", "runs"):
        shutil.rmtree(here.root.results / folder)
    here.root.ledger.unlink()
    whole = here.trial("HEAD~1", "HEAD")
    assert whole.results.reused == 0 and whole.results.pairs == killed.results.pairs
    assert (whole.verdict, whole.results.delta) == (killed.verdict, killed.results.delta)


def test_a_budget_that_ends_leaves_it_undecided_and_the_next_call_goes_on(here: SimpleNamespace, monkeypatch):
    here.commit()
    here.commit(bpb=1.9)
    told: list[str] = []
    record = here.trial("HEAD~1", "HEAD", minutes=0.000001, tell=told.append)
    assert record.verdict == "UNDECIDED" and "goes on from there" in record.results.reason and record.results.look == 0
    assert "first look after 4 pairs" in told[0] and len(record.results.predicted_seconds) == 2
    made = len(here.stub.asked)
    assert here.trial("HEAD~1", "HEAD").verdict == "BETTER"
    assert len(here.stub.asked) == 11 and made < 11


def test_what_is_decided_is_not_tried_again(here: SimpleNamespace):
    here.commit()
    here.commit(bpb=1.9)
    first = here.trial("HEAD~1", "HEAD")
    asked, told = len(here.stub.asked), []
    assert here.trial("main~1", "main", tell=told.append).id == first.id
    assert len(here.stub.asked) == asked and told == [f"this trial is done: record {first.id[:12]}"]


def test_a_busy_machine_decides_nothing(here: SimpleNamespace):
    here.commit()
    here.commit(bpb=1.9)
    here.stub.load = 0.5
    record = here.trial("HEAD~1", "HEAD")
    assert record.verdict == "UNDECIDED" and record.results.disturbed and "quieter machine" in record.results.reason
    assert here.trial("HEAD~1", "HEAD", rule=TrialRule(foreign_limit=1.0)).verdict == "BETTER"
    here.stub.load = 0.02
    again = here.trial("HEAD~1", "HEAD")
    assert again.verdict == "BETTER" and again.results.reused == 2, "the short trainings alone were kept"


def test_work_beside_the_clock_does_not_win(here: SimpleNamespace):
    here.commit()
    here.commit(speed=3.0, outside=20)
    record = here.trial("HEAD~1", "HEAD")
    assert record.verdict == "UNDECIDED" and "outside of its steps, on no clock" in record.results.reason


def test_the_record_is_one_of_the_ledger(here: SimpleNamespace):
    here.commit()
    here.trial("HEAD", "bpb=1.9")
    read = next(everything(here.lab.ledger))
    assert isinstance(read, VersionRecord) and read.fault is None and read.kind == "trial"
    assert brief(read).startswith("bpb=1.9 against HEAD: val_bpb at equal time -0.") and subject(read) == ""
    assert [one.id for one in newest_verdicts(here.lab.ledger, 3)] == [read.id]
    assert read.results.pairs[0].seed == TrialRule().seed and json.dumps(read.plain())
