"""A confined job is cut off from files, network and other processes, as far as this system can do it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.sandbox import landlock
from autoresearch_lab.sandbox.confine import MOST_COMPILERS, WITHOUT, environment
from autoresearch_lab.sandbox.parent import JobFailed, Limits, run_job

JOBS = """
import os, pathlib, socket, subprocess

def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def look(args, run_dir, report):
    return {
        "write here": attempt(lambda: pathlib.Path(run_dir, "x").write_text("1")),
        "write there": attempt(lambda: pathlib.Path(args["outside"], "x").write_text("1")),
        "read there": attempt(lambda: pathlib.Path(args["outside"], "secret").read_text()),
        "socket": attempt(lambda: socket.socket()),
        "signal": attempt(lambda: os.kill(os.getppid(), 0)),
        "environment of the parent": attempt(lambda: open(f"/proc/{os.getppid()}/environ").read()),
        "subprocess": attempt(lambda: subprocess.run(["true"], check=True, start_new_session=True)),
        "group": os.getpgid(0) == os.getppid(),
        "variables": sorted(os.environ),
    }

def leave_a_child(args, run_dir, report):
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    return {"pid": child.pid}

def be_quiet(args, run_dir, report):
    import time
    report({"stage": "one"})
    time.sleep(30)

def start_like_a_driver(args, run_dir, report):
    # What NVIDIA's driver does while it starts, and what it does not need.
    import threading

    def listen():
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        own.bind(chr(0) + f"cuda-uvmfd-{os.getpid()}")
        own.listen()

    def accept():
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.bind(chr(0) + f"cuda-other-{os.getpid()}")
        own.listen()
        own.setblocking(False)
        own.accept()

    def connect():
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("/nowhere")

    def name_a_thread():
        pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("driver")

    return {
        "listen": attempt(listen),
        "name a thread": attempt(name_a_thread),
        "connect": attempt(connect),
        "accept": attempt(accept),
        "pair": attempt(lambda: socket.socketpair()),
        "pair of datagrams": attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
        "stream": attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
        "internet": attempt(lambda: socket.socket()),
        "write there": attempt(lambda: pathlib.Path(args["outside"], "x").write_text("1")),
    }

JOBS = {"start_like_a_driver": start_like_a_driver, "look": look, "leave_a_child": leave_a_child, "be_quiet": be_quiet}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: list[str]) -> Path:
    folder = tmp_path / "lib" / "untrusted_jobs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "probe.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return folder


def _outside(tmp_path: Path) -> Path:
    """A folder that the rights of files would let every user write to."""
    outside = tmp_path / "outside"
    outside.mkdir(exist_ok=True)
    outside.chmod(0o777)
    return outside


linux = pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")


@linux
def test_what_a_job_left_in_its_folder_is_not_run_by_the_next(package: Path, tmp_path: Path) -> None:
    run_dir, outside = tmp_path / "run", _outside(tmp_path)
    code = f"open({str(outside / 'escaped')!r}, 'w').close()\n"
    for name in ("json.py", "autoresearch_lab/__init__.py", "untrusted_jobs/__init__.py", "usercustomize.py"):
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text(code)
    site = run_dir / ".local" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (site / "usercustomize.py").write_text(code)
    limits = Limits(seconds=60, confined=True)
    found = run_job("untrusted_jobs", "look", {"outside": str(outside)}, run_dir=run_dir, limits=limits)
    assert found["write here"] == "done"
    assert not (outside / "escaped").exists()


@linux
@pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")
def test_only_the_run_folder_can_be_written(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "very secret")
    outside = _outside(tmp_path)
    (outside / "secret").write_text("secret")
    found = run_job(
        "untrusted_jobs",
        "look",
        {"outside": str(outside)},
        run_dir=tmp_path / "run",
        limits=Limits(seconds=60, confined=True),
    )
    assert found["write here"] == "done"
    assert found["write there"] == "PermissionError"
    assert found["read there"] == "PermissionError"
    assert found["socket"] == "PermissionError"
    assert found["environment of the parent"] == "PermissionError"
    assert found["subprocess"] == "done"
    assert found["group"]
    assert "SECRET_TOKEN" not in found["variables"]
    assert list(outside.iterdir()) == [outside / "secret"]
    if landlock.version() >= 6:
        assert found["signal"] == "PermissionError"


def _driver(tmp_path: Path, gpu: bool) -> tuple[dict, list[str]]:
    told: list[str] = []
    outside = _outside(tmp_path)
    found = run_job(
        "untrusted_jobs", "start_like_a_driver", {"outside": str(outside)}, run_dir=tmp_path / "run",
        limits=Limits(seconds=60, confined=True, gpu=gpu),
        on_progress=lambda message: told.extend(message.get("unenforced", ())),
    )  # fmt: skip
    return found, told


@linux
@pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")
def test_a_driver_can_start_and_nothing_else_is_opened(package: Path, tmp_path: Path) -> None:
    refused, opened = _driver(tmp_path, gpu=False)[0], _driver(tmp_path, gpu=True)[0]
    assert refused["listen"] == refused["name a thread"] == refused["connect"] == "PermissionError"
    assert opened["listen"] == opened["name a thread"] == "done"
    assert opened["connect"] == "FileNotFoundError"  # as where there is no server of several users
    for found in (refused, opened):
        assert found["pair"] == "done" and found["pair of datagrams"] == "PermissionError"
    assert opened["accept"] == "PermissionError"
    assert opened["stream"] == opened["internet"] == opened["write there"] == "PermissionError"


@linux
@pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")
def test_what_is_left_out_for_a_gpu_is_told_and_no_other_job_gets_it(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WITHOUT, "landlock")
    found, told = _driver(tmp_path, gpu=True)
    assert found["write there"] == "done" and found["internet"] == "PermissionError"
    assert set(landlock.UNENFORCED) <= set(told) and "network" not in told
    monkeypatch.setenv(WITHOUT, "seccomp")
    found, told = _driver(tmp_path, gpu=True)
    assert found["internet"] == "done" and found["write there"] == "PermissionError" and "network" in told
    found, told = _driver(tmp_path, gpu=False)
    assert found["internet"] == found["write there"] == "PermissionError" and "network" not in told


@linux
def test_a_word_that_leaves_nothing_out_is_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WITHOUT, "landlock, secomp")
    with pytest.raises(JobFailed, match="unknown word 'secomp'"):
        _driver(tmp_path, gpu=True)


@linux
def test_a_child_cannot_leave_the_group_that_is_killed(package: Path, tmp_path: Path) -> None:
    found = run_job(
        "untrusted_jobs", "leave_a_child", {}, run_dir=tmp_path / "run", limits=Limits(seconds=60, confined=True)
    )
    deadline = time.monotonic() + 10
    while _runs(found["pid"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(found["pid"])


def _runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_silence_ends_a_job(package: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="nothing heard for 2 s") as failed:
        run_job(
            "untrusted_jobs", "be_quiet", {}, run_dir=tmp_path / "run", limits=Limits(seconds=60, quiet_seconds=2.0)
        )
    assert failed.value.kind == "timeout"


def test_the_environment_is_reduced_to_what_computing_needs(tmp_path: Path) -> None:
    full = {"PATH": "/bin", "OMP_NUM_THREADS": "2", "AWS_SECRET_ACCESS_KEY": "x", "SSH_AUTH_SOCK": "y", "HOME": "/root"}
    found = environment(full, tmp_path)
    assert found["PATH"] == "/bin"
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["HOME"] == str(tmp_path)
    assert not {"AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"} & set(found)
    assert Path(found["TMPDIR"]).is_dir()
    assert CHECKOUT.is_dir()


def test_graphs_are_compiled_by_threads_and_never_by_a_pool_of_processes(tmp_path: Path) -> None:
    on_cpu, on_gpu = environment({}, tmp_path), environment({}, tmp_path, gpu=True)
    assert int(on_cpu["TORCHINDUCTOR_COMPILE_THREADS"]) == min(MOST_COMPILERS, os.cpu_count() or 1)
    assert on_gpu["TORCHINDUCTOR_COMPILE_THREADS"] == "1"
    assert on_cpu["TORCH_WARM_POOL"] == on_gpu["TORCH_WARM_POOL"] == "0"
