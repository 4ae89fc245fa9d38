"""A ledger that no record can be appended to stops every verb that appends, before it works."""

from pathlib import Path

import pytest

from autoresearch_lab.cli import app
from autoresearch_lab.paths import CHECKOUT, Root

TRACE = ["--metadata", "m.json", "--output", "t.json"]
WORK = {
    "profile": [],
    "init": ["--target", "rms_norm", "--workspace", "w"],
    "extract": ["--profile", "p.json", "--workspace", "w"],
    "verify": ["--workspace", "w"],
    "compile-check": ["rms_norm=triton_fused"],
    "bench": ["--workspace", "w"],
    "gate": ["--base", "HEAD"],
    "trial": [],
    "fit": [],
    "ab": ["--workspace", "w"],
    "integration-ab": ["--workspace", "w"],
    "integration-suite": ["--workspace", "w", "--presets", "cpu-nano"],
    "calibrate": [],
    "promote": ["--workspace", "w"],
    "demote": ["--target", "rms_norm"],
    "orchestrate": ["--profile", "p.json"],
    "run": [],
    "mac": [],
    "capture": [],
    "trace-profile": TRACE,
    "deep-profile": ["rms_norm=triton_fused", "--output", "d.json"],
    "auto-review": ["--trace", "abc"],
    "review-trace": ["--trace", "abc", "--judgement", "unclear", "--text", "t", "--reviewer", "r"],
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    monkeypatch.chdir(tmp_path)
    early = "the engine was asked before the ledger"
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda *_: pytest.fail(early))
    root = Root(tmp_path)
    root.results.mkdir(parents=True)
    return root


def test_every_verb_is_either_read_only_or_tried_here():
    assert set(WORK) | app.READ_ONLY == set(app.VERBS)


@pytest.mark.parametrize("verb", WORK)
def test_a_damaged_ledger_stops_the_verb_before_it_works(root: Root, verb: str, capsys):
    root.ledger.write_text("damaged\n")
    assert app.main(["--root", str(root.path), "--engine", "cpu", verb, *WORK[verb]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"ledger: line 1 of {root.ledger} cannot be read" in line
    assert [path.name for path in root.results.iterdir()] == ["ledger.jsonl"]


@pytest.mark.parametrize("blocked", ["ledger.jsonl", "ledger.jsonl.lock"])
def test_a_ledger_that_cannot_be_appended_stops_the_verb_before_it_works(root: Root, blocked: str, capsys):
    (root.results / blocked).mkdir()
    assert app.main(["--root", str(root.path), "--engine", "cpu", "profile"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ledger: cannot") and str(root.results / blocked) in line


def test_a_file_in_the_place_of_the_run_folders_is_named(root: Root, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.undo()
    root.runs.touch()
    assert app.main(["--root", str(root.path), "--engine", "cpu", "profile", "--output", str(root.path / "p")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: run folder: cannot write to ") and str(root.runs) in line
