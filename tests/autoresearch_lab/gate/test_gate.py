"""The gate on planted times: what it stops, what it lets through, and what it says of either."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as xml
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_common.arrays import write_arrays
from autoresearch_lab import workloads
from autoresearch_lab.bench import session as bench_session
from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.bench.samples import Process
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.gate import kernels as gate_kernels
from autoresearch_lab.gate.kernels import gate
from autoresearch_lab.gate.report import junit, markdown
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_trainer.jobs.timing import TIME

SOURCE = "import torch\ndef relu_squared(x):\n    return torch.relu(x).square()\n"
CONTEXT = Context(ENGINES["cpu"], {"key": "a-device"}, {"key": "some-software"})
ROUNDS = 10


def planted(head: float, crowd: bool = False):
    """A `measure` whose head takes `head` times as long as base; crowd: others use most of the machine."""

    def measure(bed, arms, *, seed, on_progress, **_):
        rng = np.random.default_rng(seed)
        shape = (ROUNDS, 2, len(arms), len(bed.workloads))
        times = np.exp(rng.normal(0, 0.005, (*shape, 2))) * [1e6, 2e6]
        times[:, :, -1] *= head
        disturbed = {"calls": 40, "aside": 10 * crowd, "samples": 20, "unclean": 15 * crowd}
        answer = {
            "samples": times.tolist(), "clean": np.full(shape, True).tolist(),
            "orders": [[[0, [int(arm) for arm in rng.permutation(3)]]] for _ in range(ROUNDS)],
            "foreign_load": [0.9 * crowd] * ROUNDS, "calls": [1], "disturbed": [disturbed] * 3,
            "span_seconds": 0.01, "timed_seconds": 0.005, "window_ns": 50.0, "first_call_ms": [[1.0]] * 3,
            "peak_bytes": None, "load_average": [0.0] * 3, "process": {},
        }  # fmt: skip
        return Process(TIME.read(answer), seed)

    return measure


def git(folder: Path, *words: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A lab whose working tree has one kernel edited and one added since its only commit; everything passes verify."""
    home = tmp_path / "kernels" / "relu_squared"
    home.mkdir(parents=True)
    shutil.copy(CHECKOUT / "kernels" / "relu_squared" / "oracle.py", home)
    text = (CHECKOUT / "kernels" / "relu_squared" / "target.toml").read_text(encoding="utf-8")
    contract = text[: text.index("[[kernels]]")]

    def entry(name: str) -> str:
        (home / f"{name}.py").write_text(SOURCE, encoding="utf-8")
        role = "baseline" if name == "torch_eager" else "candidate"
        return (
            f'[[kernels]]\nname = "{name}"\nframework = "torch"\ndevices = ["cpu"]\nrole = "{role}"\n'
            f'language = "python"\nfile = "{name}.py"\n'
        )

    (home / "target.toml").write_text(contract + entry("torch_eager") + entry("mine"), encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "kernels")
    git(tmp_path, "commit", "--quiet", "--message", "base")
    (home / "mine.py").write_text(SOURCE + "# edited\n", encoding="utf-8")
    root = Root(tmp_path)
    array = {"name": "x", "kind": "array", "dtype": "float32", "shape": [4, 8], "strides": [8, 1], "grad": True}
    call = {
        "id": "relu_squared-1", "target": "relu_squared", "args": [array], "phase": "forward", "calls_per_step": 1.0,
        "sample": {"file": "relu_squared.safetensors", "prefix": "relu_squared-1/"},
    }  # fmt: skip
    sample = tmp_path / "sample.safetensors"
    write_arrays(sample, {"relu_squared-1/x": np.ones((4, 8), np.float32)})
    data = {"name": "none", "fingerprint": "0"}
    captured = workloads.save(
        root, "relu_squared", engine="cpu", preset="cpu-nano", data=data, workloads=[call], sample=sample
    )
    monkeypatch.setattr(gate_kernels, "ensure_workloads", lambda *_, **__: captured)
    passed = SimpleNamespace(verdict="PASS", results=SimpleNamespace(reason=""))
    monkeypatch.setattr(gate_kernels, "verify", lambda *_, **__: passed)
    monkeypatch.setattr(Lab, "context", CONTEXT)
    return SimpleNamespace(lab=Lab.of(CONTEXT, root), home=home, contract=contract, entry=entry)


def judged(edited, monkeypatch, head: float, crowd: bool = False):
    monkeypatch.setattr(bench_session, "measure", planted(head, crowd))
    return gate(edited.lab, "HEAD", None)


def test_a_planted_loss_of_five_per_cent_ends_with_1_and_is_written_down(edited, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_session, "measure", planted(1.05))
    files = [f"--markdown={tmp_path / 'summary.md'}", f"--junit={tmp_path / 'junit.xml'}"]
    assert main(["--engine", "cpu", "--root", str(tmp_path), "gate", "--base", "HEAD", "--json", *files]) == 1
    answer = json.loads(capsys.readouterr().out)
    (row,) = answer["rows"]
    assert not answer["passes"] and row["name"] == "relu_squared=mine" and row["verdict"] == "SLOWER"
    assert row["ratio"] == pytest.approx(1 / 1.05, rel=0.01) and row["interval"][1] < 0.99
    assert row["head_seconds"] / row["base_seconds"] == pytest.approx(1.05, rel=0.01)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "**does not pass: relu_squared=mine**" in summary and "| relu_squared=mine | SLOWER |" in summary
    suite = xml.parse(tmp_path / "junit.xml").getroot()
    assert suite.attrib["failures"] == "1" and suite.find("testcase/failure").attrib["type"] == "SLOWER"


def test_a_null_ends_with_0(edited, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_session, "measure", planted(1.0))
    assert main(["--engine", "cpu", "--root", str(tmp_path), "gate", "--base", "HEAD"]) == 0
    assert "passes" in capsys.readouterr().out


def test_what_a_busy_machine_shows_is_ambiguous_and_passes(edited, monkeypatch):
    answer = judged(edited, monkeypatch, 1.05, crowd=True)
    assert answer.passes and answer.rows[0].verdict == "AMBIGUOUS" and answer.rows[0].foreign_load == 0.9
    assert "other processes used 90% of the machine" in answer.rows[0].reason
    assert "passes (1 of 1 ambiguous)" in markdown(answer)
    assert xml.fromstring(junit(answer)).attrib["skipped"] == "1"


def test_a_great_loss_is_one_on_a_busy_machine_too(edited, monkeypatch):
    assert judged(edited, monkeypatch, 2.0, crowd=True).rows[0].verdict == "SLOWER"


def test_a_gain_is_faster(edited, monkeypatch):
    assert judged(edited, monkeypatch, 0.8).rows[0].verdict == "FASTER"


def test_what_is_wrong_or_breaks_off_fails_and_is_not_timed(edited, monkeypatch):
    failed = SimpleNamespace(verdict="FAIL", results=SimpleNamespace(reason="values: 3 elements | differ"))
    monkeypatch.setattr(gate_kernels, "verify", lambda *_, **__: failed)
    answer = judged(edited, monkeypatch, 1.0)
    assert not answer.passes and answer.rows[0].verdict == "FAIL" and answer.rows[0].ratio is None
    assert "3 elements \\| differ" in markdown(answer)

    def refuses(*_, **__):
        raise LabError("it does not load")

    monkeypatch.setattr(gate_kernels, "verify", refuses)
    assert judged(edited, monkeypatch, 1.0).rows[0].reason == "it does not load"


def test_a_new_kernel_is_verified_and_has_nothing_to_be_compared_with(edited, monkeypatch):
    toml = edited.contract + edited.entry("torch_eager") + edited.entry("mine") + edited.entry("another")
    (edited.home / "target.toml").write_text(toml, encoding="utf-8")
    answer = judged(edited, monkeypatch, 1.0)
    assert [(row.name, row.verdict) for row in answer.rows] == [("relu_squared=another", "AMBIGUOUS")]
    assert answer.rows[0].reason == "it passes verify; new: base has no such kernel"


def test_equal_versions_pass_and_unknown_ones_are_bad_input(edited, tmp_path, capsys):
    assert gate(edited.lab, "HEAD", "HEAD").rows == []
    assert "no kernel differs" in markdown(gate(edited.lab, "HEAD", "HEAD"))
    root = ["--engine", "cpu", "--root", str(tmp_path), "gate"]
    assert main([*root, "--base", "no-such"]) == 2
    assert "git knows no commit 'no-such'" in capsys.readouterr().err
    for words in ([], ["--head", "HEAD"], ["--command-base", "true"], ["--base", "HEAD", "--command-head", "true"]):
        assert main([*root, *words]) == 2
        assert "give --base REF" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_in_real_processes(edited):
    sleeps = SOURCE.replace("    return", "    import time\n    time.sleep(0.004)\n    return")
    (edited.home / "mine.py").write_text(sleeps, encoding="utf-8")
    (row,) = gate(edited.lab, "HEAD", None, rule=Rule(looks=(3,), error=0.05), budget_seconds=1.0).rows
    assert row.verdict == "SLOWER" and row.ratio < 0.5, row
    assert row.head_seconds > 0.004
    left = [path.name for path in edited.lab.root.runs.rglob("*") if path.name in ("mine.py", "inputs.safetensors")]
    assert left == []
