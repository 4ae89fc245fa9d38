"""A workspace for a kernel in Triton or Metal where its GPU is missing: opened, verified on the CPU, never timed."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from autoresearch_common import workload as w
from autoresearch_common.arrays import storage, write_arrays
from autoresearch_lab import catalog, engine, workloads
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import judge
from autoresearch_lab.cli import workspace as verbs
from autoresearch_lab.cli.app import main
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.workspace.folder import language

CONTEXTS = {name: Context(engine.ENGINES[name], {"key": "here"}, {"key": "now"}) for name in ("cpu", "mlx")}
NEEDED = {"triton": ("torch", "triton"), "metal": ("mlx",)}
# language: (the engine that the workspace is opened with, the kernel that it starts from)
KINDS = [
    pytest.param(
        name,
        of,
        start,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(module) is None for module in NEEDED[name]),
            reason=f"{' or '.join(NEEDED[name])} is not installed",
        ),
    )
    for name, of, start in (("triton", "cpu", "triton_fused"), ("metal", "mlx", "metal_fused"))
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with relu_squared, a captured call of it, and no GPU."""
    for module, name in ((engine, "has_nvidia_gpu"), (judge, "has_gpu"), (engine, "has_apple_gpu")):
        monkeypatch.setattr(module, name, lambda: False)
    monkeypatch.setattr(catalog, "has_apple_gpu", lambda: False)
    shutil.copytree(CHECKOUT / "kernels" / "relu_squared", tmp_path / "kernels" / "relu_squared")
    root = Root(tmp_path)

    def captured(target, context, *_, **__):
        shape = (4, 32)
        spec = {"name": "x", "kind": "array", "dtype": "bfloat16", "shape": list(shape)}
        spec |= {"strides": w.contiguous(shape), "grad": True}
        sample = {"file": "relu_squared.safetensors", "prefix": "relu_squared-1/"}
        call = {"id": "relu_squared-1", "target": "relu_squared", "args": [spec], "phase": "forward"}
        call |= {"calls_per_step": 2.0, "sample": sample}
        write_arrays(tmp_path / "s", {"relu_squared-1/x": np.ones(shape).astype(storage("bfloat16"))})
        data = {"name": "d", "fingerprint": "f"}
        return workloads.save(
            root, "relu_squared", engine=context.engine.name, preset="test", data=data, workloads=[call],
            sample=tmp_path / "s",
        )  # fmt: skip

    monkeypatch.setattr(verbs, "ensure_workloads", captured)
    return root


@pytest.mark.parametrize(("kind", "of", "start"), KINDS)
def test_it_is_opened_and_verified_on_the_cpu(root, capsys, monkeypatch, kind, of, start):
    folder = root.path / "mine"
    lab = ["--root", str(root.path), "--engine", of]
    assert main([*lab, "init", "--target", "relu_squared", "--from", start, "--workspace", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert f"verify {folder}" in shown and " bench " not in shown and "verified on the CPU here" in shown

    assert main([*lab, "verify", "--workspace", str(folder), "--json"]) == 0
    told = capsys.readouterr()
    assert "GPU" in told.err and json.loads(told.out)["interpreted"] is True
    record = Ledger(root.ledger).records()[-1]
    assert record.kind == "verify" and record.kernel.name == "workspace:mine"
    assert record.device["key"].startswith(("interpreter-", "metal-cpu-"))

    assert main([*lab, "bench", "--workspace", str(folder)]) == 2
    assert "nothing is timed without" in capsys.readouterr().err

    # What has just passed is not asked for again.
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: CONTEXTS[of])
    data = {"name": "d", "fingerprint": "f"}
    monkeypatch.setattr("autoresearch_lab.ab.run.describe_dataset", lambda root, name: data)
    said = f"passed verify on the CPU alone (record {record.id[:12]}), which is no evidence for a GPU"
    for verb in ("ab", "promote"):
        assert main([*lab, verb, "--workspace", str(folder)]) in (1, 2)
        told = capsys.readouterr().err
        assert said in told and "run: " not in told
    assert main([*lab, "promotion-check", "--workspace", str(folder), "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["kernels"]
    assert said in told["obstacle"] and told["next"] is None and told["remedy"] is None


@pytest.mark.parametrize(("kind", "of", "start"), KINDS)
def test_a_fault_is_found_there(root, capsys, kind, of, start):
    folder = root.path / "mine"
    lab = ["--root", str(root.path), "--engine", of]
    assert main([*lab, "init", "--target", "relu_squared", "--from", start, "--workspace", str(folder)]) == 0
    file = folder / ("kernel.py" if kind == "triton" else "kernel.metal")
    text = file.read_text()
    once = "values * values" if kind == "triton" else "value * value"
    wrong = text.replace(once, f"1.01f * {once}" if kind == "metal" else f"1.01 * {once}")
    assert wrong != text
    file.write_text(wrong)
    capsys.readouterr()
    assert main([*lab, "verify", "--workspace", str(folder), "--interpreted", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "FAIL"


def test_what_is_neither_is_not_interpreted(root, capsys):
    folder = root.path / "mine"
    lab = ["--root", str(root.path), "--engine", "cpu"]
    assert main([*lab, "init", "--target", "relu_squared", "--workspace", str(folder)]) == 0
    capsys.readouterr()
    assert main([*lab, "verify", "--workspace", str(folder), "--interpreted"]) == 2
    assert "is written in python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("import triton.language as tl\n", "triton"), ("from triton import jit\n", "triton"),
     ("import tritonclient\n", "python"), ("def broken(:\n", "python")],
)  # fmt: skip
def test_the_language_is_read_off_the_imports(tmp_path: Path, text: str, wanted: str):
    path = tmp_path / "kernel.py"
    path.write_text(text)
    assert language(path) == wanted
    path.with_suffix(".cpp").write_text("")
    assert language(path) == "cpp"


def test_every_kernel_of_the_catalogue_is_taken_for_what_it_is():
    for target in load_catalog(Root()).values():
        for kernel in target.kernels:
            written_in = kernel.language.replace("inductor", "python")  # what a kernel calls is not read for this
            assert language(kernel.path) == written_in, kernel
