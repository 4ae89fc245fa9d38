"""Who measures is alone on the device: other processes are refused or wait, and what died holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoresearch_lab.cli.app import MEASURING, VERBS, cli, main
from autoresearch_lab.device_lock import VARIABLE, hold, holders, lock_file
from autoresearch_lab.errors import LabError

# Holds the lock, says so, and ends when its input does.
PROGRAM = """
import sys
from autoresearch_lab.device_lock import hold
with hold("cpu", sys.argv[1], shared=sys.argv[2] == "shared", wait=sys.argv[3] == "wait", tell=lambda text: None):
    print("has it", flush=True)
    sys.stdin.read()
"""
Start = Callable[..., subprocess.Popen]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def start() -> Iterator[Start]:
    """start(command, kind of lock, whether it waits) -> another process that has the lock, or waits for it. It is
    a child of this process, which no lock is held for."""
    begun: list[subprocess.Popen] = []

    def started(command: str, kind: str = "alone", wait: str = "no") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, command, kind, wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        begun.append(process)
        if wait == "no":
            assert process.stdout is not None and process.stdout.readline() == b"has it\n"
        return process

    yield started
    for process in begun:
        process.kill()
        process.wait()


def refused(**options: bool) -> str:
    with pytest.raises(LabError) as told, hold("cpu", "kernel-lab ab", **options):
        pass
    return str(told.value)


def test_who_measures_is_alone_and_named(start: Start) -> None:
    other = start("kernel-lab bench")
    assert [(holder.command, holder.process) for holder in holders("cpu")] == [("kernel-lab bench", other.pid)]
    said = refused()
    assert f"the device cpu is in use by kernel-lab bench (process {other.pid}, since " in said and "--wait" in said
    assert "kernel-lab bench" in refused(shared=True)
    with hold("cuda", "kernel-lab ab"):  # another device
        pass


def test_trainings_may_be_together_but_not_beside_a_measurement(start: Start) -> None:
    start("train.py", "shared")
    with hold("cpu", "train.py", shared=True):
        assert len(holders("cpu")) == 2
    assert "train.py" in refused()


def test_the_lock_falls_with_its_holder(start: Start) -> None:
    other = start("kernel-lab bench")
    other.kill()
    other.wait()
    with hold("cpu", "kernel-lab ab"):
        assert [holder.command for holder in holders("cpu")] == ["kernel-lab ab"]
    assert holders("cpu") == []


def test_with_wait_it_comes_next(start: Start) -> None:
    first = start("kernel-lab bench")
    second = start("kernel-lab ab", "alone", "wait")
    time.sleep(0.3)
    assert second.stdout is not None and first.stdin is not None
    assert not select_ready(second)
    first.stdin.close()
    assert second.stdout.readline() == b"has it\n"
    assert [holder.command for holder in holders("cpu")] == ["kernel-lab ab"]


def select_ready(process: subprocess.Popen) -> bool:
    os.set_blocking(process.stdout.fileno(), False)
    try:
        return process.stdout.read() is not None
    finally:
        os.set_blocking(process.stdout.fileno(), True)


def test_a_holder_and_its_children_need_no_second_lock() -> None:
    with hold("cpu", "kernel-lab run"), hold("cpu", "kernel-lab bench"):
        asked = [sys.executable, "-c", PROGRAM, "train.py", "shared", "no"]
        child = subprocess.run(asked, input=b"", capture_output=True, timeout=60, check=True)
        assert child.stdout == b"has it\n"
        assert [holder.command for holder in holders("cpu")] == ["kernel-lab run"]


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[" * 60000, b'{"process": "x"}\n', b"null\n", b"9" * 6000])
def test_what_others_wrote_into_the_file_does_no_harm(content: bytes) -> None:
    lock_file("cpu").write_bytes(content)
    assert holders("cpu") == []
    with hold("cpu", "kernel-lab ab"):
        assert [holder.command for holder in holders("cpu")] == ["kernel-lab ab"]


def test_a_lock_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(folder / "missing"))
    assert "cannot lock the device: " in refused() and VARIABLE in refused()


def test_verbs_that_measure_take_it(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    start("kernel-lab orchestrate")
    assert main(["--root", str(tmp_path), "--engine", "cpu", "bench", "rms_norm=cpp_fused"]) == 2
    assert "in use by kernel-lab orchestrate" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "--engine", "cpu", "orchestrate", "--dry-run"]) == 2
    assert "in use" not in capsys.readouterr().err  # it says what it would do, and measures nothing
    main(["--root", str(tmp_path), "doctor"])
    assert "in use by kernel-lab orchestrate" in " ".join(capsys.readouterr().out.split())
    assert set(VERBS) > MEASURING
    for name in MEASURING:
        assert "--wait" in [flag for option in cli.get_command(None, name).params for flag in option.opts]
