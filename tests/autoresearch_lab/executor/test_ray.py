"""Ray itself: what is refused before it is asked, and one real verification on an instance of this machine's own."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import app
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject
from autoresearch_lab.executor import transport
from autoresearch_lab.executor.cluster import Cluster
from autoresearch_lab.executor.tasks import Tasks
from autoresearch_lab.executor.transport import LOCAL, RayTransport, chosen_address, require_ray
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import context
from autoresearch_lab.orchestrate import Candidate
from autoresearch_lab.paths import Root
from autoresearch_lab.workloads import WorkloadSet

# Not importorskip: what a local instance listens at is decided when Ray is first imported.
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_where_the_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen_address(None) == LOCAL
    monkeypatch.setenv("RAY_ADDRESS", "node-a:6379")
    assert chosen_address(None) == "node-a:6379"
    assert chosen_address("[::1]:1") == "[::1]:1" and chosen_address("auto") == "auto"


@pytest.mark.parametrize("address", ["ray://node-a:10001", "node-a", "node a:1", "http://x:1", ":1"])
def test_an_address_that_means_nothing_is_refused(address: str) -> None:
    with pytest.raises(LabError, match="--ray-address"):
        chosen_address(address)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError, match=r"pip install -e '\.\[ray\]'"):
        require_ray()


def test_an_address_without_its_executor_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--root", str(tmp_path), "orchestrate", "--profile", "p.json", "--ray-address", "node-a:6379"]
    assert app.main(words) == 2
    assert capsys.readouterr().err == "error: --ray-address needs --executor ray\n"


@needs_ray
def test_where_nobody_listens_it_says_so_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(LabError, match=f"ray: cannot join the cluster at {address}: .*refused"):
        RayTransport(address, Root(), gpus=False)


@needs_ray
@pytest.mark.alone
def test_where_something_else_listens_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "JOIN_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(LabError, match="does not answer as a Ray cluster within 3 s"):
            RayTransport(f"127.0.0.1:{mute.getsockname()[1]}", Root(), gpus=False)
    assert time.monotonic() - began < 10


@needs_ray
@pytest.mark.alone
def test_a_verification_on_a_local_instance_whose_worker_is_killed_once(
    root: Root, captured: WorkloadSet, capfd: pytest.CaptureFixture
) -> None:
    here = context(ENGINES["cpu"], root)
    ledger, said = Ledger(root.ledger), []
    target = load_catalog(root)["rms_norm"]
    kernel = target.kernel("cpp_fused", "torch")
    subject = Subject(target, kernel, captured.sha256, here)
    candidate = Candidate(1, target, kernel, root.workspaces / "one", 0.5, 0.5, captured.sha256, subject)
    tasks = Tasks(Lab.of(here, root, ledger), lambda name: captured, None, 5.0)
    cluster = Cluster(lambda: RayTransport(LOCAL, root, gpus=False), tasks, said.append)
    try:
        cluster.open()
        assert _listening() == {"127.0.0.1"}
        cluster.start(candidate, "verify")
        assert cluster.vacancy() is None  # a machine for each
        killer = threading.Thread(target=_kill_worker)
        killer.start()
        assert cluster.wait() == [(candidate, False, None)]
        killer.join()
        assert ledger.records() == []
        cluster.start(candidate, "verify")
        assert cluster.wait() == [(candidate, True, None)]
    finally:
        cluster.close()
    assert capfd.readouterr().out == ""  # stdout belongs to the result
    (record,) = ledger.records()
    assert record.verdict == "PASS" and subject.staleness(record) is None
    assert record.settings.executor.name == "ray" and record.settings.executor.node
    assert [line for line in said if "will be tried again" in line]
    assert not [p for p in psutil.Process().children(recursive=True) if "ray" in " ".join(_command(p))]


def _kill_worker() -> None:
    """End the process that works on a step, as soon as there is one; it descends from this process."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for process in psutil.Process().children(recursive=True):
            if any("ray::Worker.run" in word for word in _command(process)):
                time.sleep(1.0)
                process.kill()
                return
        time.sleep(0.05)


def _listening() -> set[str]:
    """Addresses at which this process's descendants can be reached."""
    processes = psutil.Process().children(recursive=True)
    found = {c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return {address.removeprefix("::ffff:") for address in found}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
