"""Nothing that the lab started outlives it, and nothing outlives a job; what a job left behind is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.sandbox.parent import JobFailed, Limits, end_all, run_job
from autoresearch_lab.sandbox.supervisor import below

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt others")

JOBS = """
import os, signal, subprocess, time
from pathlib import Path

def note(run_dir, pid):
    with open(Path(run_dir, "pids"), "a") as file:
        file.write(f"{pid} ")

def deaf():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)

def leave(args, run_dir, report):
    # A child's child, whose own parent has ended; in a session of its own, where it may have one.
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            note(run_dir, os.getpid())
            deaf()
        os._exit(0)
    os.wait()
    return wait_for(run_dir, 1)

def leave_a_child(args, run_dir, report):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(run_dir, child.pid)
    return {}

def wait_for(run_dir, count):
    while len(Path(run_dir, "pids").read_text().split() if Path(run_dir, "pids").exists() else []) < count:
        time.sleep(0.01)
    return {}

def tidy(args, run_dir, report):
    subprocess.run(["true"], check=True)
    subprocess.Popen(["true"])  # ended, and nobody asked how
    time.sleep(0.2)
    return {}

def crash_and_leave(args, run_dir, report):
    leave_a_child(args, run_dir, report)
    os.abort()

def hang_and_leave(args, run_dir, report):
    leave(args, run_dir, report)
    note(run_dir, os.getpid())
    deaf()

def be_killed(args, run_dir, report):
    os.kill(os.getpid(), signal.SIGKILL)

def use_up_the_processor(args, run_dir, report):
    while True:
        pass

JOBS = {f.__name__: f for f in (
    leave, leave_a_child, tidy, crash_and_leave, hang_and_leave, be_killed, use_up_the_processor
)}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: list[str]) -> Path:
    folder = tmp_path / "lib" / "leaving_jobs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "probe.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return folder.parent


def _pids(run_dir: Path) -> list[int]:
    return [int(word) for word in (run_dir / "pids").read_text().split()]


def _running(pids: list[int]) -> list[int]:
    """Those that have not ended, after a moment to do so."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def _run(job: str, run_dir: Path, confined: bool, seconds: float = 60.0) -> list[str]:
    left: list[str] = []
    limits = Limits(seconds=seconds, confined=confined)
    run_job(
        "leaving_jobs", job, {}, run_dir=run_dir, limits=limits, on_progress=lambda m: left.extend(m.get("left", []))
    )
    return left


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("job", ["leave", "leave_a_child"])
def test_what_outlives_a_job_is_ended_and_told(package: Path, tmp_path: Path, job: str, confined: bool) -> None:
    left = _run(job, tmp_path / "run", confined)
    assert _running(_pids(tmp_path / "run")) == []
    assert len(left) == confined  # of one that is trusted nobody asks


def test_what_a_job_waited_for_or_what_has_ended_is_not_left_behind(package: Path, tmp_path: Path) -> None:
    assert _run("tidy", tmp_path / "run", confined=True) == []


@pytest.mark.parametrize(
    ("job", "kind", "words"),
    [
        ("crash_and_leave", "crash", "SIGABRT"),
        ("hang_and_leave", "timeout", "no answer within 3 s"),
        ("be_killed", "killed", "SIGKILL, which the lab did not send"),
    ],
)
def test_however_a_job_ends_nothing_of_it_is_left(
    package: Path, tmp_path: Path, job: str, kind: str, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(JobFailed, match=words) as failed:
        _run(job, tmp_path / "run", confined=False, seconds=3.0)
    assert failed.value.kind == kind and time.monotonic() - began < 20
    if job != "be_killed":
        assert _running(_pids(tmp_path / "run")) == []


def test_the_limit_of_processor_time_is_no_kill_from_outside(package: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="SIGXCPU: it used more processor time than it may") as failed:
        run_job("leaving_jobs", "use_up_the_processor", {}, run_dir=tmp_path / "run", limits=Limits(cpu_seconds=3))
    assert failed.value.kind == "crash"


def test_a_job_ends_with_a_lab_that_is_killed(package: Path, tmp_path: Path, modules: list[str]) -> None:
    run_dir = tmp_path / "run"
    code = (
        "from pathlib import Path; from autoresearch_lab.sandbox.parent import Limits, run_job;"
        f"run_job('leaving_jobs', 'hang_and_leave', {{}}, run_dir=Path({str(run_dir)!r}), limits=Limits(seconds=60),"
        f"modules={modules})"
    )
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{package}"}
    lab = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        deadline = time.monotonic() + 30
        while not ((run_dir / "pids").exists() and len(_pids(run_dir)) == 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = _pids(run_dir)
        assert len(pids) == 2 and all(map(_runs, pids))
    finally:
        lab.kill()
        lab.wait()
    assert _running(pids) == []


# A command whose processes leave its group, its session and their parents, and ignore what can be ignored.
STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.setsid()
open(sys.argv[1], 'a').write(f'{os.getpid()} ')
time.sleep(600)
"""


def _command(file: Path, main: str = "sleep 600") -> list[str]:
    return ["/bin/sh", "-c", f'("{sys.executable}" -c "{STUBBORN}" "{file}" &); {main}']


def _wait_for(file: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().endswith(" ")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [int(word) for word in file.read_text().split()]


def test_a_command_ends_with_a_lab_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    code = (
        "import subprocess; from autoresearch_lab.sandbox.supervisor import below;"
        f"subprocess.Popen(below({_command(file)!r}), start_new_session=True).wait()"
    )
    lab = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    try:
        pids = _wait_for(file)
        assert pids and all(map(_runs, pids))
    finally:
        lab.kill()
        lab.wait()
    assert _running(pids) == []


def test_what_a_command_left_in_the_background_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    waiting = f'while [ ! -s "{file}" ]; do sleep 0.05; done; exit 7'
    process = subprocess.Popen(below(_command(file, waiting)), start_new_session=True)
    assert process.wait(30) == 7
    assert _running(_wait_for(file)) == []


def test_a_command_is_asked_to_end_and_may_tidy_up(tmp_path: Path) -> None:
    file, done = tmp_path / "pids", tmp_path / "done"
    main = f"trap 'echo tidy > \"{done}\"; exit 0' TERM; while :; do sleep 0.05; done"
    process = subprocess.Popen(below(_command(file, main)), start_new_session=True)
    pids = _wait_for(file)
    end_all(process)
    assert done.read_text() == "tidy\n" and process.returncode == 0
    assert _running(pids) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [("exit 3", 3), ("kill -SEGV $$", -signal.SIGSEGV), ("kill -KILL $$", -signal.SIGKILL), ("nothing-like-it", 127)],
)
def test_a_command_ends_as_it_would_alone(line: str, code: int) -> None:
    assert subprocess.run(below(["/bin/sh", "-c", line]), stderr=subprocess.DEVNULL).returncode == code


def test_a_command_that_is_not_there_says_so() -> None:
    done = subprocess.run(below(["/nowhere/at/all"]), capture_output=True, text=True)
    assert done.returncode == 127 and "/nowhere/at/all: No such file or directory" in done.stderr
