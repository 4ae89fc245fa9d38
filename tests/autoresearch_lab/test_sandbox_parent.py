"""Every way in which a job can die reaches the parent as a named failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autoresearch_lab.sandbox.limits import GIB
from autoresearch_lab.sandbox.parent import JobFailed, Limits, run_job

JOBS = '''
import os, sys, time

def add(args, run_dir, report):
    report({"done": 1, "total": 2})
    print("noise on stdout")
    return {"sum": args["a"] + args["b"], "cwd_is_run_dir": os.getcwd() == str(run_dir)}

def fail(args, run_dir, report):
    raise KeyError("no such thing")

def hang(args, run_dir, report):
    time.sleep(60)

def crash(args, run_dir, report):
    os.abort()

def leave(args, run_dir, report):
    os._exit(0)

def hoard(args, run_dir, report):
    return {"size": len(bytearray(100 << 30))}

def not_a_number(args, run_dir, report):
    return {"x": float("nan")}

def forge(args, run_dir, report):
    """Writes an answer of its own into every descriptor that it finds."""
    for fd in range(3, 1024):
        try:
            os.write(fd, b'{"nonce": "guess", "event": "result", "value": {"sum": 42}}\\n')
        except OSError:
            pass
    time.sleep(60)

JOBS = {f.__name__: f for f in (add, fail, hang, crash, leave, hoard, not_a_number, forge)}
'''


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: list[str]):
    package = tmp_path / "path" / "toy_engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "probe.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))

    def run(job: str, seconds: float = 20.0, memory: int | None = None, progress=None, **args):
        limits = Limits(seconds=seconds, memory_bytes=memory)
        return run_job("toy_engine", job, args, run_dir=tmp_path / "run", limits=limits, on_progress=progress)

    return run


def test_result_and_progress_come_through_the_pipe(run) -> None:
    seen = []
    assert run("add", a=2, b=3, progress=seen.append) == {"sum": 5, "cwd_is_run_dir": True}
    assert seen == [{"done": 1, "total": 2}]


@pytest.mark.parametrize(
    ("job", "kind", "words"),
    [
        ("fail", "exception", "KeyError"),
        ("crash", "crash", "SIGABRT"),
        ("leave", "protocol", "no answer"),
        ("forge", "protocol", "not a message"),
        ("not_a_number", "exception", "ValueError"),
    ],
)
def test_failures_are_named(run, job: str, kind: str, words: str) -> None:
    with pytest.raises(JobFailed, match=words) as caught:
        run(job)
    assert caught.value.kind == kind


def test_a_hanging_job_is_ended_on_time(run) -> None:
    with pytest.raises(JobFailed, match="no answer within 1 s") as caught:
        run("hang", seconds=1.0)
    assert caught.value.kind == "timeout"


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux only")
def test_a_giant_allocation_is_out_of_memory(run) -> None:
    with pytest.raises(JobFailed) as caught:
        run("hoard", memory=2 * GIB)
    assert caught.value.kind == "memory"
