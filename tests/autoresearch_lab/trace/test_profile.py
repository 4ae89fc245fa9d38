"""Verbs trace-profile, auto-review and review-trace on a captured trace: records, files, and what they refuse."""

import json
import shutil

import pytest

from autoresearch_lab.cli.app import main
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.trace.capture import METADATA

from .database import Database, two_steps
from .taken import taken


@pytest.fixture
def lab(tmp_path):
    root = Root(tmp_path / "lab")
    return root, Ledger(root.ledger)


def call(root, *arguments):
    return main(["--root", str(root.path), *(str(argument) for argument in arguments)])


def profile(root, metadata, output, *more):
    return call(root, "trace-profile", "--metadata", metadata, "--output", output, *more)


def test_a_profile_is_shown_written_and_recorded(lab, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    root, ledger = lab
    path, metadata = taken(root, ledger, root.results / "traces" / "one.v1")
    assert profile(root, path, tmp_path / "p.json") == 0
    shown = capsys.readouterr().out
    assert "Test GPU" in shown and "rope" in shown and "outside the targets" in shown and "idle 27.5 %" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "written to" not in line)
    record = ledger.latest(kind="trace")
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["schema"] == 1 and found["id"] == record.id and found["capture"] == metadata.record
    assert record.settings.tool == "nsys" and record.device["key"] == "cuda-1" and record.engine == "cuda"
    assert [row.plain() for row in record.results.targets] == found["targets"] and found["remarks"] == []
    assert record.settings.selection["rope"].sha256 == "a" * 64 and not ledger.problems()


def test_a_prefix_will_do_and_a_trace_may_be_taken_elsewhere(lab, tmp_path, capsys):
    root, ledger = lab
    path, _ = taken(root, ledger, tmp_path / "there" / "one")
    shutil.move(tmp_path / "there", tmp_path / "here")
    other = Root(tmp_path / "other")
    other.path.mkdir()
    assert profile(other, tmp_path / "here" / "one", tmp_path / "p.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == [
        "the capture is not in this ledger: it was taken elsewhere"
    ]
    assert path.name == f"one{METADATA}" and len(Ledger(other.ledger).records()) == 1


def test_a_busy_machine_is_told_of(lab, tmp_path, capsys):
    root, ledger = lab
    path, _ = taken(root, ledger, root.results / "one", foreign_load=0.69)
    assert profile(root, path, tmp_path / "p.json", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["foreign_load"] == 0.69
    assert found["remarks"] == ["other processes used 69% of the machine meanwhile: times are too long"]


def _edited(path):
    with open(path.with_name("one.sqlite"), "ab") as file:
        file.write(b"more")


def _of_another(path):
    content = json.loads(path.read_text())
    content["files"][0]["sha256"] = content["files"][1]["sha256"]
    content["files"][0]["name"], content["files"][0]["bytes"] = "one.sqlite", content["files"][1]["bytes"]
    path.write_text(json.dumps(content))


def _changed(**changes):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_edited, "was changed after it was captured"),
        (lambda path: path.with_name("one.nsys-rep").unlink(), "cannot read"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_text("{"), "is not JSON"),
        (_changed(schema=9), "it says 9"),
        (_changed(steps=0), "is damaged: steps"),
        (_changed(files=[{"name": "../one.sqlite", "sha256": "a" * 64, "bytes": 1}]), "is damaged: files.0.name"),
        (_of_another, "not that of the recorded capture"),
    ],
)
def test_what_is_not_what_was_captured_is_refused(lab, tmp_path, capsys, fault, words):
    root, ledger = lab
    path, _ = taken(root, ledger, tmp_path / "one")
    fault(path)
    assert profile(root, path, tmp_path / "p.json") == 2
    told = capsys.readouterr()
    assert words in told.err and len(told.err.strip().splitlines()) == 1 and told.out == ""
    assert not (tmp_path / "p.json").exists() and not ledger.find(kind="trace")


def test_an_output_that_is_there_or_cannot_be_written_is_refused(lab, tmp_path, capsys):
    root, ledger = lab
    path, _ = taken(root, ledger, tmp_path / "one")
    (tmp_path / "kept.json").write_text("kept")
    for output, words in ((tmp_path / "kept.json", "exists already"), (tmp_path, "is a folder"),
                          ("/proc/none/p.json", "cannot write to /proc/none")):  # fmt: skip
        assert profile(root, path, output) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "kept.json").read_text() == "kept" and not ledger.find(kind="trace")


def test_a_trace_without_work_of_the_device_is_refused(lab, tmp_path, capsys):
    root, ledger = lab
    base = Database()
    base.range("training step", 0.0, 1.0)
    path, _ = taken(root, ledger, tmp_path / "one", base=base)
    assert profile(root, path, tmp_path / "p.json") == 2
    assert "no work of the device" in capsys.readouterr().err


def test_a_database_with_other_than_numbers_is_refused(lab, tmp_path, capsys):
    root, ledger = lab
    base = two_steps()
    base.rows["CUPTI_ACTIVITY_KIND_KERNEL"][0] = ("then", "now", *base.rows["CUPTI_ACTIVITY_KIND_KERNEL"][0][2:])
    path, _ = taken(root, ledger, tmp_path / "one", base=base)
    assert profile(root, path, tmp_path / "p.json") == 2
    assert "one.sqlite is damaged" in capsys.readouterr().err and not ledger.find(kind="trace")


def test_a_profile_of_another_version_is_not_reviewed(lab, capsys):
    """A line of schema 1 with results that no version of today knows."""
    root, ledger = lab
    line = {"schema": 1, "id": "b" * 64, "prev": None, "time": "2026-01-01T00:00:00+00:00", "kind": "trace"}
    line |= {"settings": {"tool": "nsys", "capture": "a" * 64}, "results": {"idle": 0.5}}
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text(json.dumps(line) + "\n")
    assert call(root, "auto-review", "--trace", "b" * 64) == 2
    assert "0 profiles of traces" in capsys.readouterr().err and not ledger.find(kind="review")


def test_auto_review_finds_what_its_rules_say(lab, tmp_path, capsys):
    root, ledger = lab
    path, metadata = taken(root, ledger, tmp_path / "one")
    assert profile(root, path, tmp_path / "p.json") == 0
    trace = ledger.latest(kind="trace").id
    capsys.readouterr()
    for subject in (["--trace", trace[:10]], ["--trace", metadata.record], ["--metadata", path]):
        assert call(root, "auto-review", *subject, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["trace"] == trace and found["capture"] == metadata.record
        assert [one["rule"] for one in found["findings"]][:2] == ["launch-bound", "memory-traffic"]
        worth = [one["target"] for one in found["findings"] if one["rule"] == "worth-a-workspace"]
        assert worth == ["rope", "qk_prelude", "muon_update"]
    review = ledger.latest(kind="review")
    assert review.results.reviewer == "auto-review" and review.results.judgement == "problem"
    assert review.settings.limits["idle"] == 0.2 and len(ledger.find(kind="review")) == 3
    assert call(root, "auto-review", "--trace", trace) == 0
    assert "launch-bound" in capsys.readouterr().out


def test_auto_review_of_something_else_is_refused(lab, tmp_path, capsys):
    root, ledger = lab
    path, metadata = taken(root, ledger, tmp_path / "one")
    for arguments, words in (
        (["--trace", "f" * 64], "0 profiles of traces"),
        (["--trace", ""], "0 profiles of traces"),
        (["--metadata", path], "0 profiles of traces"),  # captured, and not profiled yet
        (["--metadata", tmp_path / "none"], "no such file"),
        (["--metadata", tmp_path], "it is a folder"),
        ([], "give --trace ID or --metadata FILE"),
        (["--trace", metadata.record, "--metadata", path], "give --trace ID or --metadata FILE"),
    ):
        assert call(root, "auto-review", *arguments) == 2
        assert words in capsys.readouterr().err
    assert not ledger.find(kind="review")


def test_a_person_may_judge_the_same_capture(lab, tmp_path, capsys):
    root, ledger = lab
    path, metadata = taken(root, ledger, tmp_path / "one")
    words = ["--judgement", "as-expected", "--text", "gemms side by side", "--reviewer", "A. Reader"]
    assert call(root, "review-trace", "--trace", metadata.record[:8], *words) == 0
    (review,) = ledger.find(kind="review")
    assert review.settings.event == "trace" and review.settings.capture == metadata.record
    assert review.settings.trace_sha256 == metadata.files[-1].sha256
    _edited(path)
    assert call(root, "review-trace", "--trace", metadata.record, *words) == 2
    assert "is not what was recorded" in capsys.readouterr().err
