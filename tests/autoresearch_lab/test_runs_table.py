"""results.tsv: the research loop's columns, one line per run, whatever became of it."""

from pathlib import Path

import pytest
from filelock import FileLock

from autoresearch_lab.errors import LabError
from autoresearch_lab.runs_table import Row, append_run

DONE = {"status": "complete", "summary": {"val_bpb": 1.23456789, "peak_vram_mb": 45060.2}}
CRASH = {"status": "failed", "summary": {"val_bpb": None, "peak_vram_mb": 45060.2}}


def test_one_line_per_run_below_one_header(tmp_path: Path):
    path = tmp_path / "runs" / "results.tsv"
    append_run(path, DONE, "a\tnew\nkernel", tmp_path)
    append_run(path, CRASH, "", tmp_path)
    append_run(path, {"status": "interrupted", "summary": {"val_bpb": None}}, "stopped", tmp_path)
    assert path.read_text().splitlines() == [
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        "-\t1.234568\t44.0\tdone\ta new kernel",
        "-\t0.000000\t0.0\tcrash\t",
        "-\t-\t-\tinterrupted\tstopped",
    ]


def test_a_trial_that_ended_before_any_pair_has_no_val_bpb():
    assert Row("a1b2c3d", None, 0.0, "discard", "too short").line() == "a1b2c3d\t-\t-\tdiscard\ttoo short\n"


def test_a_table_that_the_research_loop_began_is_continued(tmp_path: Path):
    path = tmp_path / "results.tsv"
    path.write_text("commit\tval_bpb\tmemory_gb\tstatus\tdescription\na1b2c3d\t0.997900\t44.0\tkeep\tbaseline\n")
    append_run(path, DONE, "", tmp_path)
    assert len(path.read_text().splitlines()) == 3


def test_a_table_that_others_hold_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autoresearch_lab.runs_table.LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".results.tsv.lock"), pytest.raises(LabError, match="cannot append to"):
        append_run(tmp_path / "results.tsv", DONE, "", tmp_path)


def test_another_file_is_not_touched(tmp_path: Path):
    path = tmp_path / "results.tsv"
    path.write_text("something else\n")
    with pytest.raises(LabError, match="not a table of runs"):
        append_run(path, DONE, "", tmp_path)
    assert path.read_text() == "something else\n"
    with pytest.raises(LabError, match="cannot write to"):
        append_run(tmp_path / "results.tsv" / "x", DONE, "", tmp_path)
