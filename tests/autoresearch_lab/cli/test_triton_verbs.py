"""verify --interpreted and compile-check from the command line, where no NVIDIA GPU answers."""

import importlib.util
import json

import pytest

from autoresearch_lab import engine
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import judge
from autoresearch_lab.cli.app import main
from autoresearch_lab.evidence import Subject
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import VerifyRecord

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root of its own with the project's kernels, on a machine without a GPU."""
    monkeypatch.setattr(engine, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(judge, "has_gpu", lambda: False)
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    return tmp_path


def refused(capsys, root, *arguments: str) -> str:
    """The one line on stderr with which bad input is refused."""
    assert main(["--root", str(root), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@needs_triton
def test_verify_without_a_gpu_is_interpreted_and_says_so(root, capsys):
    kernel = ["relu_squared=triton_fused"]
    assert main(["--root", str(root), "--engine", "cuda", "verify", *kernel, "--json"]) == 0
    told = capsys.readouterr()
    assert "Triton's interpreter runs the kernel on the CPU" in told.err
    data = json.loads(told.out)
    assert data["verdict"] == "PASS" and data["interpreted"] is True
    (record,) = Ledger(Root(root).ledger).find(kind="verify")
    assert record.settings.interpreted and record.device["key"].startswith("interpreter-")
    # The same software, kernel, contract and calls: on a GPU it counts for nothing.
    target = load_catalog(Root(root))["relu_squared"]
    gpu = Context(engine.ENGINES["cuda"], {"kind": "cuda", "key": "cuda-0123"}, record.software)
    subject = Subject(target, target.kernel("triton_fused", "torch"), record.workloads.sha256, gpu)
    assert (
        subject.staleness(record).startswith("other device")
        and subject.latest(Ledger(Root(root).ledger), VerifyRecord) is None
    )


def test_only_triton_kernels_are_interpreted(root, capsys):
    kernel = ["relu_squared=torch_eager"]
    assert "is for Triton kernels" in refused(capsys, root, "--engine", "cuda", "verify", *kernel)
    assert "is for Triton and Metal kernels" in refused(capsys, root, "verify", *kernel, "--interpreted")
    assert "not a workspace" in refused(capsys, root, "verify", "--workspace", str(root), "--interpreted")


def test_a_triton_kernel_on_the_cpu_engine_points_to_the_interpreter(root, capsys):
    kernel = ["relu_squared=triton_fused"]
    assert "--interpreted" in refused(capsys, root, "--engine", "cpu", "verify", *kernel)


@pytest.mark.parametrize("verb", ["bench", "ab"])
def test_nothing_is_timed_without_a_gpu(root, capsys, verb):
    kernel = {
        "bench": ["relu_squared=triton_fused"],
        "ab": ["relu_squared=triton_fused"],
    }
    line = refused(capsys, root, "--engine", "cuda", verb, *kernel[verb])
    assert "engine cuda cannot run here: no NVIDIA GPU answers" in line


@needs_triton
def test_compile_check_writes_a_record_and_a_table(root, capsys):
    arguments = ["compile-check", "relu_squared=triton_fused", "--arch", "sm_90", "--first-only"]
    assert main(["--root", str(root), "--engine", "cuda", *arguments]) == 0
    assert "2 compiled, 0 with problems" in capsys.readouterr().out
    assert main(["--root", str(root), "--engine", "cuda", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True and {row["arch"] for row in data["kernels"]} == {"sm_90"}
    records = Ledger(Root(root).ledger).find(kind="compile")
    assert len(records) == 2 and records[0].software["triton"] and records[0].kernel.name == "triton_fused"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["relu_squared"], "relu_squared=NAME"),
        (["nothing=triton_fused"], "unknown target"),
        (["relu_squared=torch_eager"], "not a Triton kernel"),
        (["relu_squared=triton_fused", "--arch", "h100"], "unknown architecture 'h100'"),
        (["relu_squared=triton_fused", "--arch", ""], "unknown architecture"),
        (["relu_squared=triton_fused", "--arch", "sm_90,sm_999"], "'sm_999'; known: sm_70, sm_75"),
    ],
)
def test_compile_check_refuses_bad_input(root, capsys, arguments, words):
    assert words in refused(capsys, root, "--engine", "cuda", "compile-check", *arguments)
