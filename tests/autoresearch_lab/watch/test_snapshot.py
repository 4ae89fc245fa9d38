"""What `watch` reads: whatever becomes of the files on the way, a snapshot comes out, and nothing is read twice."""

import json
import os
import shutil
import sys

import psutil
import pytest

from autoresearch_lab import device_lock
from autoresearch_lab.cli import app
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.status import CandidateStatus, StatusFile
from autoresearch_lab.training_progress import PROGRESS_FILE
from autoresearch_lab.watch import draw, snapshot
from autoresearch_lab.watch.snapshot import Snapshot, Watcher


@pytest.fixture
def watcher(root):
    return Watcher(Lab(root))


def shown(found: Snapshot, width=80, height=24, section=None):
    return [line.plain for line in draw.page(found, width, height, section)]


def everything(stub_lab, root):
    stub_lab.write_work(root)
    stub_lab.write_evidence(root)
    return stub_lab.write_training(root.path / "runs" / "last")


def test_an_empty_lab(watcher):
    text = "\n".join(shown(watcher.read()))
    assert "nobody measures or trains" in text and "no verdict yet" in text and "no run yet" in text


def test_everything_at_once_fits_the_window(watcher, stub_lab, root):
    everything(stub_lab, root)
    for width, height in ((80, 23), (40, 10), (200, 60)):
        lines = shown(watcher.read(), width, height)
        assert len(lines) <= height and max(map(len, lines)) <= width, (width, height)
    text = "\n".join(shown(watcher.read(), 120, 60))
    for part in (
        "orchestrate on cpu: running", "bench adamw_update=cpp_fused: process 3 of 8 (6 of", "4 candidates, 1 at their",
        "without ab (not timed yet)", "loss 2.746", "30,150 tokens/s", "MFU 27.1 %", "memory 812 MiB", "0:30 left",
        "PROMOTE    rms_norm=cpp_fused", "tokens/s 1.448× [1.395, 1.503]", "promoted kernels", "bench: rms_norm=cpp",
    ):  # fmt: skip
        assert part in text, part


def test_time_left_follows_from_what_steps_took(watcher, stub_lab, root):
    """25 s for each step so far: two more to verify, three to bench, of which one has had its time."""
    stub_lab.write_work(root)
    (work,) = watcher.read().work
    assert work.candidates_left == pytest.approx(4 * 25, abs=3) and work.unknown == ["ab"]
    assert [row.step for row in work.candidates] == [None, "bench", "verify", "extract"]
    fresh = StatusFile("orchestrate", "cpu", root.results / "status-cpu.json")
    fresh.step("a", "verify", [CandidateStatus(candidate="a", step="verify")])
    assert any("time left not known yet (verify, bench, ab)" in line for line in shown(watcher.read()))


def test_a_training_is_read_as_it_grows(watcher, stub_lab, root):
    path = stub_lab.write_training(root.path / "runs" / "last", steps=3)
    assert watcher.read().training.step == 30
    (file,) = watcher._trainings.values()
    offset = file._offset
    line = {"event": "step", "time": 0, "step": 40, "progress": 0.5, "loss": 3, "tokens_per_second": 10, "seconds": 9}
    text = json.dumps(line).encode()
    with open(path, "ab") as stream:
        stream.write(text[:30])
        stream.flush()
        assert watcher.read().training.step == 30  # half a line
        stream.write(text[30:] + b"\n")
    found = watcher.read().training
    assert (found.step, found.left) == (40, 9.0) and len(found.points) == 4
    assert file._offset == offset + len(text) + 1 and not file._torn
    stub_lab.write_training(root.path / "runs" / "last", steps=2, val_bpb=1.75)  # the next run in that folder
    found = watcher.read().training
    assert (found.state, found.step, found.val_bpb, len(found.points)) == ("complete", 20, 1.75, 2)


def test_the_curve_keeps_few_points_however_long_the_run(watcher, stub_lab, root):
    stub_lab.write_training(root.path / "runs" / "last", steps=4000)
    found = watcher.read().training
    assert len(found.points) <= snapshot.MOST_POINTS and found.points[0][0] < 1 and found.step == 40_000
    lines = draw.curve(found.points, 80, 5)
    assert len(lines) == 5 and all(len(line) <= 80 for line in lines)
    assert lines[0].plain.count("█") < 10 and " " not in lines[-1].plain[draw.AXIS :]  # it falls, and is never empty


def test_the_run_that_was_written_to_last_is_shown(watcher, stub_lab, root):
    old = stub_lab.write_training(root.path / "runs" / "old")
    os.utime(old, (1, 1))
    stub_lab.write_training(root.results / "runs" / "trial-1" / "side-a", process=10**6)
    found = watcher.read().training
    assert (found.name, found.state) == ("side-a", "killed")
    shutil.rmtree(root.results)
    assert watcher.read().training.name == "old"
    shutil.rmtree(root.path / "runs")
    assert watcher.read().training is None and watcher._trainings == {}


GARBAGE = (
    b"", b"\n\n", b"\xff\xfe\x00" * 100, b"[" * 100_000 + b"\n", b'{"event": "start"}\n', b'{"event": 3}\nnull\n',
    b'{"event": "step", "step": 1e999, "loss": NaN}\n' * 3,
)  # fmt: skip


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_foreign_bytes_are_no_end(watcher, stub_lab, root, content):
    path = everything(stub_lab, root)
    with open(path, "ab") as stream:
        stream.write(content)
    assert watcher.read().training.step == 2000
    for name in ("runs/last/progress.jsonl", "runs/results.tsv", "results/kernel_lab/status-cpu.json"):
        (root.path / name).write_bytes(content)
    found = watcher.read()
    assert found.training is None and found.work == [] and found.rows == []
    assert shown(found) and json.dumps(found.plain(), allow_nan=False)


def test_folders_and_pipes_in_the_place_of_files(watcher, stub_lab, root):
    for name in ("runs/results.tsv", "runs/last/progress.jsonl", "results/kernel_lab/ledger.jsonl"):
        (root.path / name).mkdir(parents=True)
    (root.path / "runs" / "pipe").mkdir()
    os.mkfifo(root.path / "runs" / "pipe" / PROGRESS_FILE)
    (root.path / "results.tsv").symlink_to("nowhere")
    found = watcher.read()
    assert found.training is None and "Is a directory" in "".join(found.problems)
    assert any("cannot be read" in line for line in shown(found))


def test_control_characters_reach_no_terminal(watcher, stub_lab, root):
    status = stub_lab.write_work(root)
    status.line("a\x1b[2Jb\nc")
    status.stage("\x1b]0;title\x07x", None, None, None)
    stub_lab.write_evidence(root)
    with open(root.path / "runs" / "results.tsv", "a") as table:
        table.write("abc\t1.0\t1.0\tkeep\t\x1b[31mred\n")
    lines = shown(watcher.read(), 120, 60)
    assert all(line.isprintable() for line in lines) and any("a [2Jb c" in line for line in lines)


def test_a_large_ledger_is_asked_for_its_newest_alone(watcher, stub_lab, root, monkeypatch):
    stub_lab.write_evidence(root)
    reads = []
    monkeypatch.setattr(Ledger, "records", lambda self: pytest.fail("the whole ledger"))
    newest = Ledger.newest
    monkeypatch.setattr(Ledger, "newest", lambda self, of, **wanted: reads.append(of) or newest(self, of, **wanted))
    first = watcher.read().verdicts
    assert [one.verdict for one in first] == ["PASS", "FASTER", "PROMOTE"]
    asked = len(reads)
    assert watcher.read().verdicts == first and len(reads) == asked  # not again while the file is the same
    Ledger(root.ledger).append("verify", target="rope", kernel=stub_lab.KERNEL, verdict="FAIL")
    assert "FAIL" in [one.verdict for one in watcher.read().verdicts] and len(reads) == 2 * asked


def test_a_broken_ledger_is_told_and_the_rest_is_shown(watcher, stub_lab, root):
    everything(stub_lab, root)
    content = root.ledger.read_bytes()
    root.ledger.write_bytes(b"nonsense\n" + content)
    found = watcher.read()
    assert "line 1" in found.problems[0] and found.training.step == 2000
    root.ledger.write_bytes(content + b'{"torn')
    found = watcher.read()
    assert found.problems == [] and len(found.verdicts) == 3


def test_who_holds_the_device(watcher, monkeypatch):
    with device_lock.hold("cpu", "kernel-lab bench"):
        (line,) = watcher.read().holders["cpu"]
    assert line.startswith(f"kernel-lab bench (process {os.getpid()}")
    assert watcher.read().holders == {}


def test_nothing_is_written(watcher, stub_lab, root):
    everything(stub_lab, root)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.path.rglob("*")}
    watcher.read()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.path.rglob("*")} == before


def test_once_as_text_and_as_json(stub_lab, root, capsys, monkeypatch):
    everything(stub_lab, root)
    monkeypatch.setenv("COLUMNS", "80")
    assert app.main(["--root", str(root.path), "watch", "--once"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and "── verdicts" in text and all(len(line) <= 80 for line in text.splitlines())
    assert app.main(["--root", str(root.path), "watch", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["training"]["step"] == 2000 and data["work"][0]["candidates"][1]["step"] == "bench"
    assert [one["verdict"] for one in data["verdicts"]] == ["PASS", "FASTER", "PROMOTE"]


def test_without_textual_it_names_the_extra(root, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert app.main(["--root", str(root.path), "watch"]) == 2
    error = capsys.readouterr().err
    assert "pip install -e '.[watch]'" in error and len(error.strip().splitlines()) == 1


def test_an_ended_and_a_killed_verb(watcher, stub_lab, root):
    status = stub_lab.write_work(root)
    status.end()
    assert watcher.read().work[0].state == "ended"
    status.now.ended, status.now.process_started = False, psutil.Process().create_time() - 1000
    status.stage("one more", None, None, None)
    (work,) = watcher.read().work
    assert work.state == "killed" and work.candidates_left == 0
