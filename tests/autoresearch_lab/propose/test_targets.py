"""Where proposals are made: at the profile's top targets, where something can be gained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import app, orchestrate
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import LedgerCorrupt
from autoresearch_lab.paths import Root
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.propose import targets
from autoresearch_lab.propose.attempts import Budget
from autoresearch_lab.propose.command import CannotStart
from autoresearch_lab.propose.tuner import Tuner

# target: (share of the step, what could be saved of the step's 20 ms)
ROWS = {
    "relu_squared": (0.2, 2.0),
    "rms_norm": (0.1, None),
    "rope": (0.1, 0.1),
    "residual_mix": (0.05, 0.5),
    "mlp": (0.3, 3.0),
}


@pytest.fixture
def pipeline(context, tmp_path, monkeypatch):
    made = object.__new__(Pipeline)
    rows = [
        SimpleNamespace(target=name, rank=rank, share=share, saveable_ms=saveable, calls_per_step=1.0, within={})
        for rank, (name, (share, saveable)) in enumerate(ROWS.items(), start=1)
    ]
    made.profile = SimpleNamespace(targets=rows, workloads={**ROWS}, step_ms=20.0)
    made.catalog, made.lab, made.top_k = load_catalog(Root()), Lab.of(context, Root(tmp_path)), 2
    made.workspace_root = tmp_path / "workspaces"
    monkeypatch.setattr(targets, "resolve", lambda *_: SimpleNamespace(chosen=dict))
    return made


def test_a_command_gets_the_top_targets_with_something_to_gain(pipeline):
    found = [(target.name, folder.name, start) for target, folder, start in targets.places(pipeline, tuned=False)]
    assert found == [("relu_squared", "relu_squared-proposed", None), ("rms_norm", "rms_norm-proposed", None)]
    pipeline.top_k = 9
    assert [target.name for target, *_ in targets.places(pipeline, tuned=False)] == [
        "relu_squared", "rms_norm", "residual_mix", "mlp",
    ]  # fmt: skip


def test_the_tuner_gets_the_kernels_that_declare_something(pipeline):
    found = [(target.name, folder.name, start.name) for target, folder, start in targets.places(pipeline, tuned=True)]
    assert found == [
        ("rms_norm", "rms_norm-cpp_fused-tuned", "cpp_fused"),
        ("residual_mix", "residual_mix-cpp_fused-tuned", "cpp_fused"),
    ]


@pytest.mark.parametrize("step", ["create", "propose"])
def test_one_workspace_that_cannot_be_used_leaves_the_others_alone(pipeline, monkeypatch, step):
    def refuses(*given):
        tried.append(given)
        raise LabError("not this one")

    tried, said = [], []
    pipeline.workloads = lambda target: None
    monkeypatch.setattr(targets, "create", lambda *given: None)
    monkeypatch.setattr(targets, step, refuses)
    targets.propose_all(pipeline, lambda *_: None, Budget(), said.append)
    assert len(tried) == 2 and said == ["relu_squared: not this one", "rms_norm: not this one"]


@pytest.mark.parametrize("error", [CannotStart("no"), LedgerCorrupt("no")])
def test_what_concerns_every_target_ends_it(pipeline, monkeypatch, error):
    def refuses(*_):
        raise error

    pipeline.workloads = lambda target: None
    monkeypatch.setattr(targets, "create", lambda *given: None)
    monkeypatch.setattr(targets, "propose", refuses)
    with pytest.raises(type(error)):
        targets.propose_all(pipeline, lambda *_: None, Budget(), lambda line: None)


def test_what_is_asked_for_reaches_the_proposer(monkeypatch, tmp_path, context):
    asked = []
    made = SimpleNamespace(candidates=list, run=lambda on_step: ([], {}))
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: context)
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", lambda *_: made)
    monkeypatch.setattr(orchestrate, "propose_all", lambda *given: asked.append(given[1:3]))
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--profile", "p.json"]
    words += ["--workspace-root", str(tmp_path / "w")]
    app.main([*words, "--proposer", "my-agent --fast", "--proposals", "3", "--proposer-seconds", "7"])
    app.main([*words, "--proposer", "tuner"])
    app.main(words)
    (command, budget), (tuner, _) = asked
    assert (command.line, budget.attempts, budget.seconds) == ("my-agent --fast", 3, 7.0)
    assert isinstance(tuner, Tuner)


@pytest.mark.parametrize(
    "more",
    [["--proposer", " "], ["--proposer", "x", "--proposals", "0"], ["--proposals", "3"], ["--proposer-seconds", "9"]],
)
def test_senseless_proposers_are_bad_input(monkeypatch, tmp_path, context, more, capsys):
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: context)
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", lambda *_: SimpleNamespace(candidates=list))
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--profile", "p.json", *more]
    assert app.main(words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
