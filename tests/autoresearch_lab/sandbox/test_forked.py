"""A job that is forked finds what one that is started finds; whatever becomes of the server, jobs run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autoresearch_lab.engine import ENGINES
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.sandbox import forked
from autoresearch_lab.sandbox.parent import Limits, run_job
from autoresearch_trainer.jobs.timing import TimeArgs
from autoresearch_trainer.kernel_files import KernelFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux")

JOBS = """
import ctypes, os, random, sys, tempfile, time
import numpy

def look(args, run_dir, report):
    return {
        "folders": [os.getcwd(), tempfile.gettempdir()],
        "variable": os.environ.get("MARK"),
        "drawn": [random.random(), numpy.random.rand()],
        "address": ctypes.addressof(ctypes.create_string_buffer(1 << 24)),
        "parent": os.getppid(),
        "imported": "colorsys" in sys.modules,
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
        "seed": sys.modules["torch"].initial_seed() if "torch" in sys.modules else 0,
    }

def wait(args, run_dir, report):
    time.sleep(2)
    return {}

JOBS = {"look": look, "wait": wait}
"""


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "lib" / "looking_jobs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "probe.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    monkeypatch.setattr(forked, "_servers", {})

    def look(name: str, *modules: str, job: str = "look", **variables: str) -> dict[str, Any]:
        run_dir = tmp_path / name
        return {**run_job("looking_jobs", job, {}, run_dir=run_dir, limits=Limits(), modules=modules,
                          variables={"TMPDIR": str(tmp_path / "lib"), **variables})}  # fmt: skip

    yield look
    forked.end_servers()


def test_a_forked_job_finds_what_a_started_one_does(look: Any, tmp_path: Path) -> None:
    started, one, two = look("a", MARK="1"), look("b", "numpy", MARK="1"), look("c", "numpy", MARK="1")
    for name, found in (("a", started), ("b", one), ("c", two)):
        assert found["folders"] == [str(tmp_path / name), str(tmp_path / "lib")]
        assert found["variable"] == "1"
        assert len(found["descriptors"]) == len(started["descriptors"])
    assert len(forked._servers) == 1
    for drawn in zip(started["drawn"], one["drawn"], two["drawn"], strict=True):
        assert len(set(drawn)) == 3
    assert len({found["address"] for found in (one, two, look("d", "numpy", MARK="1"))}) > 1


def test_a_server_has_imported_the_modules_of_its_jobs_alone(look: Any) -> None:
    assert look("a", "colorsys")["imported"] and not look("b", "json")["imported"]
    assert not look("c", "no_such_module")["imported"]
    assert len(forked._servers) == 3
    assert look("d", "json", MARK="2")["variable"] == "2"
    assert len(forked._servers) == forked.MOST_SERVERS == 3


def test_a_job_runs_after_its_server_was_killed(look: Any) -> None:
    look("a", "json")
    (server,) = forked._servers.values()
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    assert look("b", "json")["variable"] is None
    assert forked._servers == {}
    look("c", "json")
    assert len(forked._servers) == 1


def test_no_server_is_ended_while_a_job_of_it_runs(look: Any) -> None:
    count = forked.MOST_SERVERS + 2
    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(look, f"a{number}", "json", job="wait", MARK=f"{number}") for number in range(count)]
        assert [job.result() for job in waiting] == [{}] * count
    look("b", "json")
    assert len(forked._servers) == forked.MOST_SERVERS


def test_a_request_that_is_too_large_costs_no_other_job_anything(look: Any) -> None:
    look("a", "json")
    (server,) = forked._servers.values()
    assert look("b", "json", HOME="x" * 120_000, XDG_CACHE_HOME="y" * 120_000)["imported"] is False
    assert server in forked._servers.values() and not server.ended


def test_few_descriptors_are_enough(look: Any) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, limits[1]))
    try:
        assert look("a", "json")["variable"] is None
        assert len(forked._servers) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_where_none_can_be_forked_jobs_are_started(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_possible", lambda: False)
    assert look("a", "json")["variable"] is None and forked._servers == {}


def test_every_job_has_a_seed_of_pytorchs_of_its_own(look: Any) -> None:
    pytest.importorskip("torch")
    seeds = {look(name, "torch")["seed"] for name in "ab"}
    assert len(seeds) == 2 and 0 not in seeds


def test_a_server_ends_with_its_lab(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal; from autoresearch_lab.sandbox import forked;"
        "server = forked._server('key', ['json'], dict(os.environ)); print(server._process.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    server, deadline = Path("/proc", done.stdout.strip()), time.monotonic() + 20
    while server.exists() and "State:\tZ" not in (server / "status").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.exists() or "State:\tZ" in (server / "status").read_text()


def test_what_is_imported_ahead_is_what_the_job_imports_itself() -> None:
    kernel = KernelFile(path="-", name="x", target="x", sha256="0" * 64)
    args = TimeArgs(arms=[kernel], inputs="-", workloads=[], seconds=1, least_rounds=1, most_rounds=1, seed=1,
                    checked=0, memory=False)  # fmt: skip
    plain = ENGINES["cpu"]._imported(args)
    assert "torch._dynamo" not in plain
    assert "torch._dynamo" in ENGINES["cpu"]._imported(args.model_copy(update={"compiled": [0]}))
    assert ENGINES["cuda"]._imported(args) == ENGINES["mlx"]._imported(args) == []
    code = f"import sys, {', '.join(plain)}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0
