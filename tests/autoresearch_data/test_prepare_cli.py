"""The command line of prepare.py, driven as a user drives it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_data.cli import main

PREPARE = Path(__file__).resolve().parents[2] / "prepare.py"


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "my notes"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nSomething about {number}.\n")
    return folder


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_prepares_then_finds_everything_valid(capsys, sources, tmp_path):
    code, out, err = run(capsys, "--corpus", sources, "--data-dir", tmp_path / "data")
    assert code == 0 and "dataset my-notes prepared in" in out and "fingerprint:" in out
    assert "training the tokenizer: " in err  # plain lines, for a pipe
    code, out, err = run(capsys, "--corpus", sources, "--data-dir", tmp_path / "data", "--json")
    summary = json.loads(out)
    assert code == 0 and summary["reused"] and summary["seconds"] < 5
    assert summary["splits"]["train"]["documents"] + summary["splits"]["val"]["documents"] == 120
    assert set(summary["packing_loss"]) == {"256", "512", "2048"} and len(summary["fingerprint"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "nonsense"], "unknown corpus"),
        (["--corpus", "stdlib", "--dataset", "a/b"], "bad dataset name"),
        (["--corpus", "stdlib", "--dataset", ""], "bad dataset name ''"),
        (["--corpus", "stdlib", "--like", ""], "bad dataset name ''"),
        (["--corpus", ""], "--corpus is empty"),
        (["--corpus", "stdlib", "--bogus"], "No such option"),
        (["--corpus", "stdlib", "--shards", "3"], "--shards is for corpora that are downloaded"),
        (["--corpus", "climbmix", "--shards", "0"], "has training shards 1 to 6542, not 0"),
        (["--corpus", "climbmix", "--hub", "ftp://x"], "bad hub address"),
        (["--corpus", "stdlib", "--data-dir", "{file}"], "it is a file, not a folder"),
        (["--corpus", "{empty}"], "holds no files"),
        (["--corpus", "stdlib", "--dataset", "mine", "--like", "nothing"], "no dataset in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"file": tmp_path / "file", "empty": tmp_path / "empty"}
    code, out, err = run(capsys, *(argument.format(**places) for argument in arguments))
    assert code == 2 and out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1


def test_a_full_disk_is_a_folder_that_cannot_be_written(capsys, sources, tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autoresearch_data.build.write_tokens", full)
    code, _, err = run(capsys, "--corpus", sources, "--data-dir", tmp_path / "data")
    assert code == 2 and [*(tmp_path / "data").glob("[!.]*")] == []
    assert err.splitlines()[-1] == f"error: cannot write {tmp_path / 'data' / 'my-notes'}: No space left on device"


def test_front_door_in_a_fresh_process_shows_bars_on_a_terminal(sources, tmp_path):
    parent, child = pty.openpty()
    command = [sys.executable, PREPARE, "--corpus", sources, "--data-dir", tmp_path / "data", "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=child, env=environment, timeout=60)
    os.close(child)
    shown = os.read(parent, 65536).decode(errors="replace")  # the terminal may give it in parts
    os.close(parent)
    assert done.returncode == 0 and json.loads(done.stdout)["reused"] is False
    assert "training the tokenizer" in shown and "\x1b[" in shown and "100%" in shown
