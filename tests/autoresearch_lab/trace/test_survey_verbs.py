"""Verbs trace-profile FILE and trace-diff on traces that the lab did not take: what they print, write and refuse."""

import gzip
import json

import pytest

from autoresearch_lab.cli.app import main
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root

from .database import Database, two_steps
from .events import annotation, kernel, launch, write
from .taken import taken


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "lab")
    root.path.mkdir()
    return root


def call(root, *arguments):
    return main(["--root", str(root.path), *(str(argument) for argument in arguments)])


def steps_of(path, length, names=("gemm", "softmax"), steps=2):
    events = []
    for step in range(steps):
        zero = step * 100.0
        events += [annotation(f"ProfilerStep#{step}", zero, 100.0), annotation("layer", zero, 50.0)]
        for place, name in enumerate(names):
            at = zero + 40 * place
            events += [launch(step * 10 + place, at + 1), kernel(name, step * 10 + place, at + 5, length)]
    return write(path, events)


def test_a_file_is_shown_and_written_and_nothing_is_recorded(root, tmp_path, capsys):
    path = steps_of(tmp_path / "t.json", 10.0, names=("gemm", "softmax", "<b>[bold]"))
    files = ["--output", tmp_path / "p.json", "--html", tmp_path / "p.html"]
    assert call(root, "trace-profile", path, "--map", "gemm=mlp", *files) == 0
    shown = capsys.readouterr().out
    for words in ("2 steps", "GPU 0", "host-bound", "layer", "softmax", "mlp", "nothing recorded"):
        assert words in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "written to" not in line)
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["targets"][0]["name"] == "mlp" and found["unit"] == "step" and found["schema"] == 1
    page = (tmp_path / "p.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "softmax" in page and "&lt;b&gt;[bold]" in page and "<b>" not in page
    assert not Ledger(root.ledger).records()


def test_metadata_is_a_file_too(root, tmp_path, capsys):
    path, _ = taken(root, Ledger(root.ledger), tmp_path / "one")
    for named in (path, tmp_path / "one"):
        assert call(root, "trace-profile", named) == 0
        assert "outside the targets" in capsys.readouterr().out
    assert len(Ledger(root.ledger).find(kind="trace")) == 2
    assert call(root, "trace-profile", tmp_path / "one.sqlite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unit"] == "step"


def test_arguments_that_do_not_fit_are_refused(root, tmp_path, capsys):
    path, _ = taken(root, Ledger(root.ledger), tmp_path / "one")
    for arguments, words in (
        ([], "give FILE or --metadata FILE"),
        ([path, "--metadata", path], "give FILE or --metadata FILE"),
        ([path, "--map", "a=mlp"], "are for the trace's file itself"),
        ([tmp_path / "none.json"], "cannot read"),
        ([tmp_path], "cannot read"),
        ([tmp_path / "one.sqlite", "--perfetto", path], "exists already"),
    ):
        assert call(root, "trace-profile", *arguments) == 2
        told = capsys.readouterr()
        assert words in told.err and len(told.err.strip().splitlines()) == 1 and told.out == ""


def test_what_grew_and_what_shrank_per_step(root, tmp_path, capsys):
    a = steps_of(tmp_path / "a.json", 10.0)
    b = steps_of(tmp_path / "b.json.gz", 14.0, names=("gemm", "flash"), steps=3)
    assert call(root, "trace-diff", a, b, "--json", "--output", tmp_path / "d.json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "d.json").read_text())
    kernels = [(one["name"], one["a_ms"], one["b_ms"], one["change_ms"]) for one in found["kernels"]]
    assert kernels == [
        ("flash", None, pytest.approx(0.014), pytest.approx(0.014)),
        ("softmax", pytest.approx(0.010), None, pytest.approx(-0.010)),
        ("gemm", pytest.approx(0.010), pytest.approx(0.014), pytest.approx(0.004)),
    ]
    (layer,) = found["ranges"]
    assert layer["change_ms"] == pytest.approx(0.008) and layer["a_calls"] == layer["b_calls"] == 1
    assert found["devices"][0]["change_ms"] == pytest.approx(0) and found["unit"] == "step"
    assert call(root, "trace-diff", a, b) == 0
    shown = capsys.readouterr().out
    assert "+0.014" in shown and "nothing says how much of a change is chance" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "/" not in line)


def test_a_step_and_a_whole_trace_are_not_compared(root, tmp_path, capsys):
    a = steps_of(tmp_path / "a.json", 10.0)
    base = Database()
    for number in range(3):
        base.range(f"batch {number}", number * 10.0, number * 10.0 + 9.0)
        base.kernel("gemm", number * 10.0 + 1, number * 10.0 + 1, number * 10.0 + 3)
    b = base.write(tmp_path / "b.sqlite")
    assert call(root, "trace-diff", a, b) == 2
    assert "b.sqlite has no ranges of steps, the other has" in capsys.readouterr().err
    assert call(root, "trace-diff", a, b, "--step", r"batch \d+|ProfilerStep#\d+", "--json") == 0
    changed = {one["name"]: one["b_ms"] for one in json.loads(capsys.readouterr().out)["kernels"]}
    assert changed["void gemm<float>()"] == pytest.approx(2.0)


def test_lanes_for_perfetto(root, tmp_path):
    path = two_steps().write(tmp_path / "t.sqlite")
    assert call(root, "trace-profile", path, "--perfetto", tmp_path / "out.json.gz") == 0
    events = json.loads(gzip.decompress((tmp_path / "out.json.gz").read_bytes()))["traceEvents"]
    lanes = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    slices = [(lanes[one["pid"], one["tid"]], one["name"], one["ts"], one["dur"]) for one in events if one["ph"] == "X"]
    owners = [row for row in slices if row[0] == "owners, stream 7"]
    assert owners[:3] == [
        ("owners, stream 7", "rope forward", 600.0, 1000.0),
        ("owners, stream 7", "qk_prelude forward", 1600.0, 2250.0),  # a kernel and a fill, one after the other
        ("owners, stream 7", "rope backward", 4000.0, 2000.0),
    ]
    assert [row[1:] for row in slices if row[0] == "steps"] == [("step 0", 0.0, 10000.0), ("step 1", 10000.0, 10000.0)]
    # Trimmed: what ran after the steps is left out. Slices of one lane lie one after the other.
    assert not any("set_up" in name for _, name, _, _ in slices) and [p.name for p in tmp_path.glob(".out*")] == []
    assert all(one[2] + one[3] <= two[2] + 1e-6 for one, two in zip(owners, owners[1:], strict=False))
    rotate = next(one for one in events if one["name"] == "void rotate<float>()")
    assert rotate["args"] == {"kind": "kernel", "range": "rope", "target": "rope", "direction": "forward"}
