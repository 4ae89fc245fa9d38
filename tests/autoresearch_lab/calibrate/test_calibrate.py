"""Planning, counting and going on: with planted verdicts, so that every number can be checked."""

import json
from types import SimpleNamespace

import pytest

from autoresearch_lab.calibrate import run as calibration
from autoresearch_lab.calibrate.counting import BROKEN, HELD, OPEN, Share, count, promises, wrong
from autoresearch_lab.calibrate.plan import AB, BENCH, FASTER, GRADIENT, NULL, VERIFY, CalibrationTrial, Group, Plan
from autoresearch_lab.calibrate.run import Calibration
from autoresearch_lab.calibrate.table import markdown
from autoresearch_lab.calibrate.trials import Trials
from autoresearch_lab.calibrate.work import ExtraWork
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.note import TrialId, TrialResults, WorkResults

CONTEXT = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"python": "3", "key": "s1"})
PLAN = Plan(
    targets=("relu_squared", "rms_norm"), ab_targets=("relu_squared",), preset="cpu-nano", trials=4,
    effects=(0.05,), effect_trials=2, ab_trials=2, harm_trials=1,
)  # fmt: skip
# What a sound lab answers, by what is planted.
SOUND = {
    (BENCH, NULL): "AMBIGUOUS", (BENCH, "faster"): "FASTER", (BENCH, "slower"): "SLOWER", (VERIFY, NULL): "PASS",
    (VERIFY, "gradient"): "FAIL", (VERIFY, "precision"): "FAIL", (AB, NULL): "REJECT", (AB, "faster"): "PROMOTE",
    (AB, "gradient"): "REJECT", (AB, "precision"): "REJECT",
}  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab whose trials answer at once. `lab.asked` lists them; `lab.answers` overrules SOUND; `lab.dies_after`."""
    here = SimpleNamespace(root=Root(tmp_path), asked=[], answers={}, dies_after=None, seconds=40.0)
    here.root.kernels.symlink_to(CHECKOUT / "kernels")
    here.ledger = Ledger(here.root.ledger)
    rates = {"copy_gb_s": [], "matmul_gflop_s": {}}
    here.ledger.append("note", **CONTEXT.fields(), settings={"event": "ceilings"}, results=rates)

    def answer(trials, trial):
        if here.dies_after is not None and len(here.asked) >= here.dies_after:
            raise KeyboardInterrupt
        here.asked.append(trial)
        verdict = here.answers.get(trial, SOUND[trial.group.stage, trial.group.plant])
        return TrialResults(verdict=verdict, seconds=here.seconds, reason="as planted", foreign_load=0.1)

    work = ExtraWork("any", 0.001, {100: 50.0}, 0.0, {0.05: [1.04, 1.05, 1.06]})
    captured = SimpleNamespace(sha256="a" * 64, record_field=lambda: {"sha256": "a" * 64})
    monkeypatch.setattr(Trials, "run", answer)
    monkeypatch.setattr(calibration, "describe_dataset", lambda root, name: {})
    monkeypatch.setattr(calibration, "ensure_workloads", lambda *args: captured)
    monkeypatch.setattr(calibration, "find_work", lambda *args, **options: work)
    monkeypatch.setattr(Calibration, "_step_seconds", lambda self: 0.05)
    here.run = lambda plan=PLAN, budget=None: Calibration(plan, Lab.of(CONTEXT, here.root)).run(budget)
    return here


def test_every_kind_is_spread_over_the_whole():
    schedule = Plan(("a", "b"), ("a",), "p", effects=(0.05, 0.1), trials=200, ab_trials=40).schedule()
    assert len(schedule) == len(set(schedule)) == 200 + 4 * 20 + 3 * 4 + 40 + 3 * 4
    wanted = {Group(BENCH, NULL): 200, Group(AB, NULL): 40, Group(BENCH, FASTER, 0.05): 20}
    for group, planned in wanted.items():
        early = sum(trial.group == group for trial in schedule[: len(schedule) // 4])
        assert abs(early - planned / 4) <= 2
    assert {trial.target for trial in schedule if trial.group == Group(BENCH, NULL)} == {"a", "b"}
    assert {trial.target for trial in schedule if trial.group.stage == AB} == {"a"}


def test_more_trials_keep_those_that_were_made():
    few, many = (set(Plan(("a", "b", "c"), ("a",), "p", trials=n).schedule()) for n in (5, 50))
    assert few < many
    assert all(
        CalibrationTrial.of(TrialId.model_validate_json(trial.recorded().model_dump_json())) == trial for trial in few
    )


def test_exact_intervals():
    assert Share(0, 200).interval == pytest.approx((0.0, 0.018275), abs=1e-5)
    assert Share(2, 200).interval == pytest.approx((0.001213, 0.035655), abs=1e-5)
    assert Share(18, 20).interval == pytest.approx((0.683017, 0.987651), abs=1e-5)
    assert Share(5, 5).interval[1] == 1.0 and Share(0, 0).rate is None and Share(0, 0).interval == (0.0, 1.0)


def test_counts_and_promises():
    nulls, gains, harm = Group(BENCH, NULL), Group(BENCH, FASTER, 0.05), Group(AB, GRADIENT, 0.15)
    planned = {nulls: 200, gains: 20, harm: 4}
    outcomes = [
        (CalibrationTrial(nulls, "t", n), TrialResults(verdict="FASTER" if n < 2 else "SAME", seconds=30))
        for n in range(200)
    ]
    outcomes += [
        (CalibrationTrial(gains, "t", n), TrialResults(verdict="FASTER", seconds=59 if n < 18 else 61))
        for n in range(20)
    ]
    outcomes += [(CalibrationTrial(harm, "t", 0), TrialResults(verdict="REJECT", seconds=200))]
    rows = count(planned, outcomes)
    assert rows[0].verdicts == {"FASTER": 2, "SAME": 198} and rows[0].mean == 30 and rows[0].complete
    assert rows[1].in_time == 18 and rows[1].worst == 61 and rows[1].share("FASTER").count == 20
    states = {promise.text.split(":")[0] + str(promise.least): promise.state for promise in promises(rows)}
    assert states == {"benchFalse": HELD, "benchTrue": HELD}

    one_more = [
        *outcomes[:2],
        (CalibrationTrial(nulls, "t", 2), TrialResults(verdict="FASTER", seconds=30)),
        *outcomes[3:],
    ]
    assert promises(count(planned, one_more))[0].state == BROKEN  # 3 of 200 are more than 1 %
    late = [(trial, results.model_copy(update={"seconds": 61})) if trial.group == gains else (trial, results)
            for trial, results in outcomes]  # fmt: skip
    assert [p.state for p in promises(count(planned, late)) if p.least] == [BROKEN]
    same = Group(AB, NULL)
    spoilt = [
        (CalibrationTrial(same, "t", n), TrialResults(verdict="UNDECIDED", seconds=9, disturbed=True)) for n in range(4)
    ]
    found = count({same: 4}, spoilt)
    assert found[0].verdicts == {"DISTURBED": 4} and promises(found)[0].state == OPEN  # nothing was concluded
    interrupted = {"baseline:x": {"calls": 40, "aside": 1}}
    benched = [(CalibrationTrial(nulls, "t", 0), TrialResults(verdict="AMBIGUOUS", seconds=30, disturbed=interrupted))]
    found = count({nulls: 1}, benched)
    assert found[0].verdicts == {"AMBIGUOUS": 1} and promises(found)[0].share.total == 1
    promoted = [(CalibrationTrial(same, "t", 0), TrialResults(verdict="PROMOTE", seconds=1))]
    assert promises(count({same: 4}, promoted))[0].state == BROKEN  # one is too many, the rest need not be awaited
    assert promises(count({nulls: 200}, []))[0].state == OPEN


@pytest.mark.parametrize(("verified", "decided", "state"), [
    ("PASS", "PROMOTE", BROKEN), ("FAIL", "PROMOTE", HELD), ("PASS", "REJECT", HELD), ("PASS", None, OPEN),
])  # fmt: skip
def test_harm_is_promoted_where_both_stages_let_it_through(verified, decided, state):
    first, second = Group(VERIFY, GRADIENT), Group(AB, GRADIENT, 0.15)
    outcomes = [(CalibrationTrial(first, "t", 0), TrialResults(verdict=verified, seconds=1))]
    if decided is not None:
        outcomes.append((CalibrationTrial(second, "t", 0), TrialResults(verdict=decided, seconds=1)))
    *_, last = promises(count({first: 1, second: 1}, outcomes), outcomes)
    assert last.text.startswith("verify and A/B together") and last.state == state
    # What the A/B did alone is told all the same.
    assert any("ab: gradient" in text for text in wrong(outcomes)) == (decided == "PROMOTE")


def test_a_whole_calibration_is_recorded_and_not_repeated(lab):
    wrong = CalibrationTrial(Group(BENCH, NULL), "rms_norm", 1)
    lab.answers[wrong] = "FASTER"
    report = lab.run()
    assert report.missing == 0 and report.made == len(lab.asked) == len(PLAN.schedule())
    notes = [record for record in lab.ledger.find(kind="note") if record.settings.event == "calibration-trial"]
    assert len(notes) == report.made and all(record.kernel is None for record in notes)
    table = lab.ledger.latest(kind="note")
    assert table.settings.event == "calibration" and table.results.missing == 0
    assert [promise.state for promise in report.promises][0] == BROKEN  # one of four nulls
    assert all(promise.state == HELD for promise in report.promises[1:])
    assert report.wrong == ["bench: null, rms_norm, 2: FASTER: as planted"]
    page = markdown(report)
    assert "| null | 4/4 | 1 (0-81 %) |" in page and "0 of 16 planned trials are missing" in page
    assert "5.0 [4.0, 6.0]" in page and "cpu-1" in page and "10% of the cores" in page
    records = len(lab.ledger.records())
    assert lab.run().made == 0 and len(lab.ledger.records()) == records


def test_a_killed_calibration_goes_on(lab):
    lab.dies_after = 5
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    first, lab.dies_after = list(lab.asked), None
    report = lab.run()
    assert len(first) == 5 and report.made == len(PLAN.schedule()) - 5 and report.missing == 0
    assert len(set(lab.asked)) == len(lab.asked)


def test_it_stops_in_time_and_says_what_is_missing(lab):
    report = lab.run(budget=200)
    # An A/B is expected to take longer than that before one was seen; the other stages fit.
    assert report.missing == sum(trial.group.stage == AB for trial in PLAN.schedule())
    assert {trial.group.stage for trial in lab.asked} == {BENCH, VERIFY}
    assert lab.run(budget=0).made == 0


def test_other_conditions_are_counted_apart(lab):
    lab.run()
    made = len(lab.asked)
    other = Plan(**{**vars(PLAN), "bench_seconds": 10.0})
    report = lab.run(other)
    assert {trial.group.stage for trial in lab.asked[made:]} == {BENCH} and report.missing == 0


def test_what_cannot_be_planted_is_refused(lab):
    for changes, message in (
        ({"targets": ("no_such",)}, "unknown target 'no_such'"),
        ({"targets": ("attention_mask",)}, "no extra work can be planted into attention_mask"),
        ({"ab_targets": ("adamw_update",)}, "no harm can be planted into adamw_update"),
        ({"effects": (1.5,)}, "between 0 and 100"),
    ):
        with pytest.raises(LabError, match=message):
            lab.run(Plan(**{**vars(PLAN), **changes}))
    assert set(load_catalog(lab.root)) >= set(PLAN.targets) and lab.asked == []


def test_turns_of_the_extra_work():
    work = ExtraWork("t", 0.002, {1000: 4000.0, 10: 80.0}, 0.01, {})
    assert work.turns(0.05) == {1000: 160, 10: 3} and work.turns(0.005) == {1000: 0, 10: 0}
    assert ExtraWork.of(WorkResults.model_validate_json(work.recorded().model_dump_json())) == work


def test_the_verb(lab, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: CONTEXT)
    common = ("--engine", "cpu", "--root", str(lab.root.path), "calibrate", "--trials", "2", "--ab-trials", "1")
    common += ("--effects", "5", "--effect-trials", "1", "--harm-trials", "1")
    page = tmp_path / "page.md"
    assert main([*common, "--write", str(page)]) == 0
    out = capsys.readouterr().out
    assert "held" in out and "0 of the plan are missing" in out and page.read_text().startswith("# Calibration")
    assert main([*common, "--json", "--budget-seconds", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == 0
    for bad, message in (
        (("--effects", "a lot"), "cannot read --effects"),
        (("--targets", ","), "--targets needs"),
        (("--write", str(tmp_path / "no" / "page.md")), "--write needs a file name"),
        (("--targets", "no_such"), "unknown target"),
    ):
        assert main([*common, *bad]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
