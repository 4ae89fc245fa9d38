"""The verb `run`: what it refuses, what it goes on after, and what it says at its end."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoresearch_common.hashing import json_sha256
from autoresearch_lab import lookup
from autoresearch_lab.campaign import cpu
from autoresearch_lab.cli import app
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.orchestrate import CandidateState
from autoresearch_lab.paths import Root
from autoresearch_lab.results.note import TrainSettings
from autoresearch_lab.results.record import CampaignRecord


def run(tmp_path, *words):
    return app.main(["--root", str(tmp_path), "--engine", "cpu", "run", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "typo"], "unknown preset 'typo'"),
        (["--preset", "cpu-nano", "--dataset", "no-such"], "unknown corpus 'no-such'"),
        (["--parts", "data"], "--parts is not for --plan cpu"),
        (["--plan", "gpu", "--top-k", "3"], "--top-k is not for --plan gpu"),
    ],
)
def test_bad_input_is_refused_before_anything_begins(tmp_path, capsys, words, message):
    assert run(tmp_path, *words) == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.fixture
def lab(monkeypatch, tmp_path, context):
    """What every step would leave, without doing it; a step may be told to do something else."""
    ending = CandidateState(None, "promoted")

    def orchestrate(job, box):
        job.states = {"norm=a[0]": ending}

    def train(job, box):
        job.closing = cpu.ClosingRun(val_bpb=1.0, tokens_per_second=1.0, num_steps=1)

    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: context)
    told = SimpleNamespace(plain=dict, render=lambda console: None, story=None)
    monkeypatch.setattr("autoresearch_lab.report.summary.summary", lambda *_: told)
    for name in ("_prepare", "_profile", "_compare", "_report"):
        monkeypatch.setattr(cpu.MainJob, name, lambda job, box: None)
    monkeypatch.setattr(cpu.MainJob, "_orchestrate", orchestrate)
    monkeypatch.setattr(cpu.MainJob, "_train", train)
    return Lab.of(context, Root(tmp_path))


def steps_of(lab):
    (note,) = lab.ledger.find(CampaignRecord)
    return {step.step: step for step in note.results.steps}


@pytest.mark.parametrize(("failed", "code"), [(True, 1), (False, 0)])
def test_it_goes_on_after_a_failed_step_and_says_so_at_its_end(monkeypatch, tmp_path, lab, capsys, failed, code):
    state = CandidateState("bench", "bench failed: no", failed=True) if failed else CandidateState(None, "promoted")
    pipeline = SimpleNamespace(run=lambda on_step: ([], {"norm=a[0]": state}))
    monkeypatch.setattr(cpu.MainJob, "_orchestrate", ORCHESTRATE)
    monkeypatch.setattr(cpu.MainJob, "_pipeline", lambda job: pipeline)
    assert run(tmp_path, "--preset", "cpu-nano") == code
    out = capsys.readouterr().out
    assert f"  norm=a[0]: {state.reason}" in out and "closing run  20 s of training with the promoted kernels" in out
    assert ("orchestrate: failed: a step failed of norm=a[0]" in out) == failed
    assert steps_of(lab)["train"].state == "done"


ORCHESTRATE, PREPARE = cpu.MainJob._orchestrate, cpu.MainJob._prepare


def test_a_dataset_of_the_users_own_name_is_taken_as_it_is(monkeypatch, tmp_path, lab, capsys):
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    monkeypatch.setattr(cpu, "open_dataset", lambda where: SimpleNamespace(folder=where, fingerprint="0123456789abcd"))
    monkeypatch.setattr(cpu.MainJob, "_prepare", PREPARE)
    assert run(tmp_path, "--preset", "cpu-nano") == 0
    told = capsys.readouterr()
    assert "data: mine 0123456789ab (prepared before)" in told.out + told.err
    assert steps_of(lab)["data"].state == "done"


def test_without_a_profile_nothing_is_orchestrated_and_the_rest_is_done(monkeypatch, tmp_path, lab, capsys):
    def broken(job, box):
        raise LabFailure("profile: ended by SIGSEGV")

    monkeypatch.setattr(cpu.MainJob, "_profile", broken)
    assert run(tmp_path, "--preset", "cpu-nano") == 1
    steps = steps_of(lab)
    assert {name: step.state for name, step in steps.items()} == {
        "data": "done", "profile": "failed", "orchestrate": "skipped", "compare": "skipped", "train": "done",
        "report": "done",
    }  # fmt: skip
    assert steps["profile"].reason == "profile: ended by SIGSEGV"
    assert "profile: failed: profile: ended by SIGSEGV" in capsys.readouterr().out


def test_where_orchestrate_is_cut_short_the_candidates_stand_where_they_are(monkeypatch, tmp_path, lab, capsys):
    class Slow:
        def run(self, on_step):
            while True:
                pass

        def candidates(self):
            return [SimpleNamespace(label="norm=a")]

        def state(self, candidate):
            return CandidateState("bench", "verified")

    monkeypatch.setattr(cpu.MainJob, "_orchestrate", ORCHESTRATE)
    monkeypatch.setattr(cpu.MainJob, "_pipeline", lambda job: Slow())
    steps, reserves = cpu.MainJob.steps, {"train": 2.0, "report": 2.0}
    shorter = lambda job: [replace(step, reserve=reserves.get(step.name, 0.0)) for step in steps(job)]  # noqa: E731
    monkeypatch.setattr(cpu.MainJob, "steps", shorter)
    assert run(tmp_path, "--preset", "cpu-nano", "--seconds", "6", "--train-seconds", "1") == 1
    assert "norm=a: verified" in capsys.readouterr().out
    steps = steps_of(lab)
    assert steps["compare"].reason == "no time left"
    assert steps["orchestrate"].exit_code is None and steps["orchestrate"].reason.startswith("out of time")
    assert steps["train"].state == steps["report"].state == "done"


def test_a_closing_run_is_trained_once(monkeypatch, tmp_path, context):
    asked = TrainSettings(
        event="train", preset="p", dataset="d", seconds=2.0, kernels={"t": {"name": "k", "sha256": "a" * 64}}
    )
    lab = Lab.of(context, Root(tmp_path))
    assert lookup.closing_run(lab, asked) is None
    record = lab.ledger.append("note", **context.fields(), settings=asked, results={"val_bpb": 1.0})
    assert lookup.closing_run(lab, asked) == record
    other = asked.model_copy(update={"seconds": 3.0})
    assert lookup.closing_run(lab, other) is None


def test_what_a_closing_run_came_to_is_what_the_ledger_says(monkeypatch, tmp_path, context):
    """Its run.json may have been edited since, or be gone."""
    lab, said = Lab.of(context, Root(tmp_path)), []
    asked = TrainSettings(event="train", preset="p", dataset="d", seconds=20.0)
    results = {"val_bpb": 1.0, "tokens_per_second": 5.0, "num_steps": 7}
    lab.ledger.append("note", **context.fields(), settings=asked, results=results)
    identity = json_sha256([asked.model_dump(), context.keys()])
    folder = lab.root.results / "training" / identity[:16]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"summary": {**results, "val_bpb": 0.1}}))
    monkeypatch.setattr(cpu, "load_catalog", lambda root: {})
    monkeypatch.setattr(cpu, "resolve", lambda *_: SimpleNamespace(recorded=dict))
    monkeypatch.setattr(cpu, "run_command", None)
    job = cpu.MainJob(lab, "p", "corpus", said.append, prepared=SimpleNamespace(fingerprint="d"))
    job._train(None)
    assert job.closing == cpu.ClosingRun(**results) and said == ["train: with the promoted kernels, done before"]
