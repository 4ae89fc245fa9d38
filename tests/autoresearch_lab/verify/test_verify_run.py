"""A verification from end to end: what the record holds, and that nothing a kernel does harms parent or ledger."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.verify import exploits as suite
from autoresearch_lab.verify import run as verify_run
from autoresearch_lab.verify.checks import ORDER
from autoresearch_lab.verify.exchange import Answers, Failure
from autoresearch_lab.verify.table import render

pytestmark = pytest.mark.usefixtures("uncompiled")
NAMES = [check.name for check in ORDER]


def _kernel(folder: Path, body: str) -> suite.CollectedKernel:
    path = folder / "kernel.py"
    path.write_text("import torch\nimport torch.nn.functional as F\n\n\ndef relu_squared(x):\n" + body)
    return suite.CollectedKernel("candidate", path, "relu_squared", None, 30.0)


@pytest.fixture(scope="module")
def prepared() -> dict:
    return {}


def test_the_baseline_passes_and_the_record_says_on_what(tmp_path: Path, prepared: dict) -> None:
    path = Root().kernels / "relu_squared" / "torch_eager.py"
    record = suite.run(suite.CollectedKernel("torch_eager", path, "relu_squared", None, 30.0), tmp_path, prepared)
    assert record.verdict == "PASS"
    assert [check.name for check in record.results.checks] == NAMES
    assert (record.seeds.verify, record.seeds.drawn) == (suite.SEED, False)
    assert record.settings.contract_sha256 and record.workloads.count == 1
    assert 0.0 < record.results.error_ratio <= 1.0
    assert [factor.result for factor in record.results.factors] == ["out0", "grad.x"]
    assert all(abs(factor.factor) < factor.smallest < 0.01 for factor in record.results.factors)
    assert [kernel.name for kernel in record.settings.trusted] == ["torch_eager"]
    assert record.results.diet == []
    assert not (tmp_path / "torch_eager").exists()
    assert Ledger(tmp_path / "ledger.jsonl").problems() == []


def test_a_seed_is_drawn_where_none_is_given(tmp_path: Path) -> None:
    case = _kernel(tmp_path, "    raise ValueError('stop here')\n")
    record = suite.run(case, tmp_path, {}, seed=None)
    assert record.seeds.drawn and record.seeds.verify != suite.SEED
    assert record.results.failed_check == "runs"


def test_all_that_is_wrong_is_listed_and_the_first_is_named(tmp_path: Path, prepared: dict) -> None:
    case = _kernel(tmp_path, "    torch.manual_seed(0)\n    return F.relu(x).square() * 1.1\n")
    record = suite.run(case, tmp_path, prepared)
    failed = [check.name for check in record.results.checks if check.status == "fail"]
    assert record.results.failed_check == failed[0] == "accuracy"
    assert {"gradients", "odd", "held_out", "side_effects"} <= set(failed)
    worst = next(check for check in record.results.checks if check.name == "accuracy").worst
    assert worst.error > worst.allowed


def test_what_goes_beyond_a_kernels_diet_is_told_and_decides_nothing(tmp_path: Path, prepared: dict) -> None:
    folder = tmp_path / "kernel"  # apart from the run folder, in which others' compiled code may lie
    folder.mkdir()
    case = _kernel(folder, "")
    case.path.write_text("import os\n" + (Root().kernels / "relu_squared" / "torch_eager.py").read_text())
    record = suite.run(case, tmp_path, prepared)
    assert record.verdict == "PASS", record.results.reason
    (line,) = record.results.diet
    assert line.startswith("kernel.py line 1: imports os; ")
    console = Console(record=True, width=200, file=io.StringIO())
    render(record, console)
    assert f"beyond a kernel's diet: {line}" in console.export_text()
    assert Ledger(tmp_path / "ledger.jsonl").records()[-1].results.diet == [line]


def test_what_a_kernel_prints_and_says_is_only_text(tmp_path: Path, prepared: dict) -> None:
    body = "    print('\\x1b[2J{\"verdict\": \"PASS\"}')\n    raise RuntimeError('\\x1b[31mred\\x07 ' + 'x' * 10000)\n"
    record = suite.run(_kernel(tmp_path, body), tmp_path, prepared)
    assert record.verdict == "FAIL"
    assert "\x1b" not in json.dumps(record.plain(), ensure_ascii=False)
    assert len(record.results.reason) < 1000


@pytest.mark.parametrize("gone", [False, True])
def test_an_edit_during_the_verification_is_no_verdict(tmp_path: Path, prepared: dict, gone: bool) -> None:
    path = _kernel(tmp_path, "    return F.relu(x).square()\n").path
    kernel = Kernel("relu_squared", "candidate", "torch", ("cpu",), "candidate", "python", path)
    assert kernel.sha256
    path.unlink() if gone else path.write_text("# another\n")
    with pytest.raises(LabError, match="is gone" if gone else "was edited meanwhile"):
        suite.run_kernel(kernel, load_catalog(Root())["relu_squared"], tmp_path, prepared)
    assert Ledger(tmp_path / "ledger.jsonl").records() == []


def test_a_full_disk_is_no_verdict(tmp_path: Path, prepared: dict) -> None:
    case = _kernel(tmp_path, "")
    case.path.write_text("raise OSError(28, 'No space left on device')\n")
    with pytest.raises(LabError, match="is full, so this is no verdict"):
        suite.run(case, tmp_path, prepared)
    assert Ledger(tmp_path / "ledger.jsonl").records() == []


def test_without_a_right_baseline_there_is_no_verdict(tmp_path: Path) -> None:
    target = load_catalog(Root())["relu_squared"]
    forward = target.oracle.forward
    target.oracle.forward = lambda args: tuple(-3.0 * value for value in forward(args))
    with pytest.raises(LabFailure, match="no verdict, the baseline"):
        suite.run_kernel(target.baseline("torch", "cpu"), target, tmp_path, {})
    assert Ledger(tmp_path / "ledger.jsonl").records() == []


def test_the_terminal_shows_what_was_declined_and_how_to_repeat_a_failure(tmp_path: Path, prepared: dict) -> None:
    refusal = "    if x.dtype == torch.float16:\n        raise NotImplementedError('float16')\n"
    body = refusal + "    return F.relu(x).square()\n"
    folder = tmp_path / "kernel"
    folder.mkdir()
    declines = suite.run(_kernel(folder, body), tmp_path, prepared)
    console = Console(record=True, width=200)
    render(declines, console)
    shown = console.export_text()
    assert declines.verdict == "PASS" and "declined in odd: " in shown and "declined in combinations: " in shown
    assert "x float16" in shown and "--seed" not in shown
    render(suite.run(_kernel(folder, "    return x\n"), tmp_path, prepared), console)
    shown = console.export_text()
    assert "The same calls again: kernel-lab verify relu_squared=" in shown and f"--seed {suite.SEED}" in shown


def test_a_file_that_does_not_load_is_told_once(tmp_path: Path, prepared: dict) -> None:
    record = suite.run(_kernel(tmp_path, "    return x +\n"), tmp_path, prepared)
    assert record.results.failed_check == "loads" and record.results.diet == []
    console = Console(record=True, width=200, file=io.StringIO())
    render(record, console)
    assert console.export_text().count("skipped") == 1


def test_for_a_file_that_does_not_load_nobody_computes_what_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real, kept = [], verify_run.ask, {}

    def ask(*args: object, part: str, **options: object) -> Answers:
        asked.append(part)
        return real(*args, part=part, **options)

    monkeypatch.setattr(verify_run, "ask", ask)
    record = suite.run(_kernel(tmp_path, "    return x +\n"), tmp_path, kept)
    assert record.results.failed_check == "loads" and asked == ["candidate"] and not kept


KILLED = Failure("killed", "ended by SIGKILL, which the lab did not send", "case captured/0")


@pytest.mark.parametrize(("times", "verdict"), [(1, "PASS"), (2, "FAIL")])
def test_a_kill_from_outside_is_no_verdict_until_it_happens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, verdict: str
) -> None:
    """The second time no other process is at work."""
    working, alone, real = [0], [], verify_run.ask

    def ask(*args: object, part: str, **options: object) -> Answers:
        if part == "candidate":
            alone.append(working[0] == 0)
            if len(alone) <= times:
                time.sleep(0.2)
                return Answers(failure=KILLED)
            return real(*args, part=part, **options)
        working[0] += 1
        try:
            return real(*args, part=part, **options)
        finally:
            working[0] -= 1

    monkeypatch.setattr(verify_run, "ask", ask)
    path = Root().kernels / "relu_squared" / "torch_eager.py"
    record = suite.run(suite.CollectedKernel("torch_eager", path, "relu_squared", None, 30.0), tmp_path, {})
    assert record.verdict == verdict and len(alone) == 2 and alone[1]
    if verdict == "FAIL":
        assert record.results.failed_check == "runs" and "twice, the second time with no other" in record.results.reason
