"""What `orchestrate` passes on, and what it says at its end."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from autoresearch_lab.cli import app, orchestrate
from autoresearch_lab.cli.orchestrate import _outcome
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.machine import Context
from autoresearch_lab.orchestrate import Candidate, CandidateState


def test_without_candidates_it_says_why_and_what_to_do():
    outcome = _outcome([], {}, plan=False)
    console = Console(record=True, width=80, file=io.StringIO())
    outcome.render(console)
    assert "nothing to try: no kernel" in console.export_text() and not outcome.positive
    assert "kernel-lab extract" in outcome.data["remark"]


def test_the_length_of_an_ab_reaches_it(monkeypatch, tmp_path):
    made = []

    def pipeline(*arguments):
        made.append(arguments[-1])
        return SimpleNamespace(candidates=list)

    device = {"kind": "cpu", "name": "Example", "key": "cpu-1"}
    here = Context(ENGINES["cpu"], device, {"key": "s1"})
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: here)
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", pipeline)
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--dry-run", "--profile", "p.json"]
    assert app.main([*words, "--workspace-root", str(tmp_path / "w"), "--steps", "7", "--race-seconds", "2.5"]) == 0
    assert (made[0].steps, made[0].race_seconds, made[0].compile) == (7, 2.5, "auto")


@pytest.mark.parametrize(
    ("name", "code"), [("rope=workspace:one", 0), ("rope=cpp_fused", 0), ("rope", 2), ("rope=", 2), ("nowhere=x", 2)]
)
def test_what_may_go_beyond_a_kernels_diet_is_named_as_candidates_are(monkeypatch, tmp_path, capsys, name, code):
    made = SimpleNamespace(candidates=list, catalog={"rope": None})
    here = Context(ENGINES["cpu"], {"kind": "cpu", "name": "Example", "key": "cpu-1"}, {"key": "s1"})
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: here)
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", lambda *arguments: made)
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--dry-run", "--profile", "p.json"]
    assert app.main([*words, "--workspace-root", str(tmp_path / "w"), "--allow-beyond-diet", name]) == code
    if code == 0:
        assert made.may_go_beyond_diet == {name}
    else:
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [["--steps", "1"], ["--race-seconds", "0"]])
def test_too_short_an_ab_is_refused(tmp_path, words):
    assert app.main(["--root", str(tmp_path), "orchestrate", "--profile", "p.json", *words]) == 2


def candidate(name):
    target, kernel = SimpleNamespace(name="relu_squared"), SimpleNamespace(name=name, sha256="0" * 64)
    return Candidate(1, target, kernel, Path(name), 0.5, 0.5, "w", subject=None)


def shown(outcome, width=120):
    console = Console(record=True, width=width, file=io.StringIO())
    outcome.render(console)
    return console.export_text()


def test_names_are_folded_and_never_cut():
    name = "workspace:relu_squared-a-name-that-is-long"
    one = candidate(name)
    text = shown(_outcome([one], {one.label: CandidateState(None, "bench: SLOWER")}, plan=False), width=60)
    assert "…" not in text and "".join(one.label.split()) in "".join(line[6:24].strip() for line in text.splitlines())


def test_a_candidate_whose_step_failed_is_told_and_the_end_is_not_positive():
    good, bad = candidate("good"), candidate("bad")
    states = {
        good.label: CandidateState(None, "promoted"),
        bad.label: CandidateState("bench", "bench failed: no", failed=True),
    }
    outcome = _outcome([good, bad], states, plan=False)
    assert not outcome.positive and [row["failed"] for row in outcome.data["candidates"]] == [False, True]
    assert " bench failed: no" in shown(outcome) and "bench: bench" not in shown(outcome)
    plan = _outcome([good, bad], states, plan=True)
    assert plan.positive and "bench: the last bench failed: no" in " ".join(shown(plan).split())
    assert _outcome([good], states, plan=False).positive


def test_a_remark_is_one_line_however_long(monkeypatch, tmp_path, context, capsys):
    made = SimpleNamespace()
    made.candidates = lambda: made.on_remark("left aside: " + "x " * 200) or []
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: context)
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", lambda *_: made)
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--dry-run", "--profile", "p.json"]
    app.main(words)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
