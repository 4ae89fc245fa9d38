"""Finished runs beside each other: what differs, and curves in characters."""

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from autoresearch_lab.cli.app import main
from autoresearch_lab.compare import chart, differences, newest, read_runs, show
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root


def write_run(
    folder: Path,
    depth: int = 2,
    val_bpb: float | None = 2.0,
    fingerprint: str = "f" * 64,
    tokens: int = 24576,
    description: str = "",
) -> Path:
    folder.mkdir(parents=True)
    record = {
        "status": "complete" if val_bpb else "failed",
        "description": description,
        "config": {"seed": 42, "peak_flops": depth * 1e9, "matrix_lr": 0.04, "model": {"n_layer": depth}},
        "dataset": {"name": "stdlib", "fingerprint": fingerprint},
        "device": {"name": "a CPU"},
        "kernels": {"rope": {"name": "torch_eager"}},
        "summary": {"val_bpb": val_bpb, "tokens_per_second": 12345.6, "peak_vram_mb": 512.4, "num_steps": 100,
                    "mfu_percent": None},
        "evaluation": {"standard_error": 0.004, "tokens": tokens} if val_bpb else None,
        "losses": [9.0 - depth * step / 100 for step in range(100)],
        "step_seconds": [0.1] * 100,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def printed(runs: list, width: int = 80) -> str:
    console = Console(width=width, record=True, no_color=True)
    show(runs, console)
    return console.export_text()


def test_only_what_differs_is_shown(tmp_path: Path):
    runs = read_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", depth=4, val_bpb=None)])
    assert differences(runs) == {"n_layer": [2, 4]}
    text = printed(runs)
    assert "2.0000" in text and "12,346" in text and "failed" in text and "matrix_lr" not in text
    assert "datasets differ" not in text and max(map(len, text.splitlines())) <= 80


def test_runs_on_other_data_say_so(tmp_path: Path):
    runs = read_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", fingerprint="e" * 64)])
    assert "val_bpb compares only if the validation split is the same" in printed(runs)


def test_what_a_run_tried_is_shown_and_that_others_were_evaluated_on_more(tmp_path: Path):
    runs = [
        write_run(tmp_path / "a", description="wider"),
        write_run(tmp_path / "b"),
        write_run(tmp_path / "c", 2, None),
    ]
    text = printed(read_runs(runs))
    assert "wider" in text and "evaluated on different tokens" not in text  # the one that failed has no val_bpb
    runs[1] = write_run(tmp_path / "d", tokens=4096)
    text = printed(read_runs(runs))
    assert "evaluated on different tokens: their val_bpb do not compare" in text
    assert "description" not in printed(read_runs(runs[1:]))


def test_curves_are_drawn_without_colour():
    lines = chart([("1", [(t, 4.0 - t / 10) for t in range(11)]), ("2", [(t, 4.0) for t in range(11)]), ("3", [])])
    assert lines[1].startswith("  4.000 |") and "2" in lines[1] and "*" not in lines[-3]
    assert lines[14].startswith("  3.000 |") and lines[14].endswith("1") and lines[-1].endswith("10 s")
    assert chart([("1", [])]) == [] and max(map(len, lines)) <= 80


def test_the_newest_runs_are_found(tmp_path: Path):
    for number, name in enumerate("abc"):
        folder = write_run(tmp_path / "runs" / name)
        os.utime(folder / "run.json", (number, number))
    assert [path.parent.name for path in newest(Root(tmp_path), 2)] == ["b", "c"]
    with pytest.raises(LabError, match="no run is in"):
        newest(Root(tmp_path / "runs" / "a"), 2)


def test_what_is_not_there_is_named_in_words(tmp_path: Path):
    for given, why in ((tmp_path / "nope", "there is no such file or folder"), (tmp_path, "it has no run.json")):
        with pytest.raises(LabError, match=f"{given} is no run of train.py: {why}"):
            read_runs([given])


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_run(tmp_path / "runs" / "a")
    common = ["--root", str(tmp_path), "compare"]
    assert main([*common, str(folder), str(folder / "run.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == {}
    assert main([*common, "--last", "3"]) == 0
    said = capsys.readouterr()
    assert "1: a" in said.out and said.err == f"no more than 1 are in {tmp_path / 'runs'}\n"
    assert main([*common, "a"]) == 0 and "1: a" in capsys.readouterr().out
    for arguments in ([], [str(folder), "--last", "1"], [str(tmp_path)]):
        assert main([*common, *arguments]) == 2
