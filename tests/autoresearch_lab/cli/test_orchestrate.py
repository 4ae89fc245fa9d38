"""What `orchestrate` passes on, and what it says at its end."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from autoresearch_lab.cli import app, orchestrate
from autoresearch_lab.cli.orchestrate import _outcome
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.machine import Context


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
    monkeypatch.setattr(app, "context", lambda engine, root: Context(ENGINES["cpu"], device, {"key": "s1"}))
    monkeypatch.setattr(orchestrate, "load", lambda path: None)
    monkeypatch.setattr(orchestrate, "Pipeline", pipeline)
    words = ["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--dry-run", "--profile", "p.json"]
    assert app.main([*words, "--workspace-root", str(tmp_path / "w"), "--steps", "7", "--race-seconds", "2.5"]) == 0
    assert (made[0].steps, made[0].race_seconds, made[0].compile) == (7, 2.5, False)


@pytest.mark.parametrize("words", [["--steps", "1"], ["--race-seconds", "0"]])
def test_too_short_an_ab_is_refused(tmp_path, words):
    assert app.main(["--root", str(tmp_path), "orchestrate", "--profile", "p.json", *words]) == 2
