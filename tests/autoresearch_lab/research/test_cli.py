"""`orchestrate --research` from its command line: what it answers, and which options mean nothing."""

import json

import pytest

from autoresearch_lab import machine
from autoresearch_lab.cli.app import main

from .conftest import Night, git


@pytest.fixture
def call(night: Night, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "context", lambda engine, root: night.here.context)
    monkeypatch.delenv("COLUMNS", raising=False)
    night.here.commit()

    def run(*words: str) -> int:
        return main(["--engine", "cpu", "--root", str(night.here.path), "orchestrate", *words])

    return run


def test_exit_codes_and_what_is_shown(night: Night, call, capsys: pytest.CaptureFixture[str]):
    words = (
        "--research",
        night.script("write(bpb=1.9 if number == 2 else 2.1)"),
        "--preset",
        "cpu-nano",
        "--proposals",
    )
    assert call(*words, "1") == 1
    assert "0 of 1 kept, on branch lab-research" in capsys.readouterr().out
    assert call(*words, "2") == 0
    out = capsys.readouterr().out
    assert "1 of 2 kept" in out and "discard" in out and "BETTER, val_bpb at equal time -0.1" in out
    count = night.here.lab.ledger.count()
    assert call(*words, "9", "--dry-run", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kept"] == 1 and [idea["status"] for idea in shown["ideas"]] == ["discard", "keep"]
    assert night.here.lab.ledger.count() == count
    assert shown["ideas"][1]["commit"] == git(night.here.path, "rev-parse", "lab-research")


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "give --profile FILE, or --research CMD"), (("--hours", "1"), "--hours needs --research"),
     (("--profile", "p.json", "--foreign-limit", "0"), "--foreign-limit needs --research"),
     (("--research", "true", "--profile", "p.json"), "takes no --profile"), (("--research", " "), "name a command"),
     (("--research", "true", "--steps", "5"), "at least 20 steps"),
     (("--research", "true", "--branch", "a..b"), "'a..b' is no name of a branch"),
     (("--research", "true", "--branch", ""), "'' is no name of a branch"),
     (("--research", "true", "--branch", "-x"), "'-x' is no name of a branch"),
     (("--research", "true", "--preset", "nope"), "unknown preset 'nope'"),
     (("--research", "true", "--dataset", "nope"), "no dataset in"),
     (("--research", "true", "--branch", "main"), "branch main is checked out"),
     (("--research", "/no/such"), "--research: '/no/such' cannot be started")],
)  # fmt: skip
def test_bad_input_is_one_line(call, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]):
    assert call(*words) == 2
    assert message in capsys.readouterr().err
