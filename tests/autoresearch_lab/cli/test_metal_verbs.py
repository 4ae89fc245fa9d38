"""What the verbs do with Metal kernels where there is no Apple GPU: verify runs them on the CPU, the rest refuses."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from autoresearch_lab import catalog, engine, machine
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import VerifyRecord

needs_mlx = pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="MLX is not installed")
KERNEL = ["relu_squared=metal_fused"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root of its own with the project's kernels, on a machine without an Apple GPU."""
    for module in (catalog, engine):
        monkeypatch.setattr(module, "has_apple_gpu", lambda: False)
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    return tmp_path


def refused(capsys, root, *arguments: str) -> str:
    """The one line on stderr with which bad input is refused."""
    assert main(["--root", str(root), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@needs_mlx
def test_verify_without_an_apple_gpu_runs_on_the_cpu_and_says_so(root, capsys):
    assert main(["--root", str(root), "--engine", "mlx", "verify", *KERNEL, "--json"]) == 0
    told = capsys.readouterr()
    assert "no Apple GPU" in told.err
    data = json.loads(told.out)
    assert data["verdict"] == "PASS" and data["interpreted"] is True and data["launches"]["checked"] > 0
    (record,) = Ledger(Root(root).ledger).find(kind="verify")
    assert record.engine == "mlx" and record.device["key"].startswith("metal-cpu-")
    # The same software, kernel, contract and calls: on a GPU, or for MLX on this CPU, it counts for nothing.
    target = load_catalog(Root(root))["relu_squared"]
    for kind in ("mlx-gpu", "mlx-cpu"):
        there = Context(ENGINES["mlx"], {"kind": kind, "key": f"{kind}-0123"}, record.software)
        subject = Subject(target, target.kernel("metal_fused", "mlx"), record.workloads.sha256, there)
        assert subject.staleness(record).startswith("other device")
        assert subject.latest(Ledger(Root(root).ledger), VerifyRecord) is None


@needs_mlx
@pytest.mark.parametrize("verb", [["bench", *KERNEL], ["ab", "relu_squared=metal_fused"]])
def test_nothing_is_timed_without_an_apple_gpu(root, capsys, verb):
    assert "needs an Apple GPU" in refused(capsys, root, "--engine", "mlx", *verb)


def test_a_metal_kernel_is_a_candidate_only_where_there_is_an_apple_gpu(root, monkeypatch):
    target = load_catalog(Root(root))["relu_squared"]
    names = {kernel.name for kernel in target.with_role("candidate", "mlx", "mlx")}
    assert "metal_fused" not in names
    monkeypatch.setattr(catalog, "has_apple_gpu", lambda: True)
    assert "metal_fused" in {kernel.name for kernel in target.with_role("candidate", "mlx", "mlx")}


def test_without_a_compiler_metal_kernels_are_refused_in_words(monkeypatch):
    def missing():
        raise engine.system_compiler.CompilerMissing("no C++ compiler found")

    monkeypatch.setattr(engine.system_compiler, "find", missing)
    monkeypatch.setattr(engine.Engine, "unavailable", lambda self: None)
    with pytest.raises(LabError, match="no C\\+\\+ compiler"):
        engine.interpreter("metal")


def test_metal_on_the_cpu_is_a_device_of_its_own(monkeypatch, tmp_path):
    answer = SimpleNamespace(device={"kind": "mlx-cpu", "name": "a processor"}, software={"mlx": "1"})
    monkeypatch.setattr(machine, "short_job", lambda *_: answer)
    plain = machine.context.__wrapped__(ENGINES["mlx"], Root(tmp_path))
    on_cpu = machine.context.__wrapped__(engine.replace(ENGINES["mlx"], interpreted=True), Root(tmp_path))
    assert on_cpu.device["kind"] == "metal-cpu" and on_cpu.device["key"] != plain.device["key"]
    assert on_cpu.software["key"] == plain.software["key"]
