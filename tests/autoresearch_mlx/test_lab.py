"""The lab's verdicts on MLX kernels: right ones pass, cheats fail in the check that is meant for them."""

from pathlib import Path

import pytest

pytest.importorskip("mlx.core", reason="MLX is not installed")

from autoresearch_common import workload as w
from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.run import verify
from autoresearch_lab.workloads import WorkloadSet

HEAD = "import mlx.core as mx\n\n\n"
CHEATS = {
    "accuracy": HEAD + "def relu_squared(x):\n    return mx.maximum(x, 0).square() * 1.01\n",
    "gradients": HEAD + "def relu_squared(x):\n    return mx.stop_gradient(mx.maximum(x, 0).square() - x) + x\n",
    "form": HEAD + "def relu_squared(x):\n    return mx.maximum(x, 0).square().astype(mx.float32)\n",
    "stale": HEAD
    + "kept = {}\n\n\ndef relu_squared(x):\n"
    + "    return kept.setdefault((x.shape, str(x.dtype)), mx.maximum(x, 0).square())\n",
    "side_effects": HEAD + "def relu_squared(x):\n    mx.random.seed(3)\n    return mx.maximum(x, 0).square()\n",
    "loads": HEAD + "def relu_squared(x, y):\n    return mx.maximum(x, 0).square()\n",
}


def spec(name: str, shape: tuple[int, ...], dtype: str = "bfloat16", grad: bool = True) -> dict:
    return {
        "name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": w.contiguous(shape),
        "grad": grad,
    }  # fmt: skip


def scalar(name: str, value: float) -> dict:
    return {"name": name, "kind": "scalar", "value": value}


WORKLOADS = {
    "relu_squared": [spec("x", (4, 32, 64))],
    "rms_norm": [spec("x", (4, 32, 64)), scalar("eps", 1.1920929e-07)],
    "adamw_update": [
        *(spec(name, (65, 8), "float32", False) for name in ("p", "grad", "exp_avg", "exp_avg_sq")),
        *(scalar(n, v) for n, v in (("step", 3), ("lr", 0.01), ("beta1", 0.8), ("beta2", 0.95), ("eps", 1e-10))),
        scalar("weight_decay", 0.0),
    ],
}  # fmt: skip


def verdict(folder: Path, target_name: str, kernel: Kernel):
    target = load_catalog(Root())[target_name]
    workload = {
        "id": f"{target_name}-test", "target": target_name, "args": WORKLOADS[target_name],
        "phase": target.contract.phase, "calls_per_step": 1.0, "sample": None,
    }  # fmt: skip
    data = {"name": "none", "fingerprint": "0" * 64}
    found = WorkloadSet(target_name, "mlx", "test", data, [workload], "0" * 64, Path("/nowhere/x.json"))
    context = Context(ENGINES["mlx"], {"kind": "mlx-cpu", "key": "mlx-cpu-test"}, {"key": "test"})
    ledger = Ledger(folder / "ledger.jsonl")
    return verify(kernel, target, found, Lab.of(context, Root(folder), ledger), seed=7, run_dir=folder / "run")


@pytest.mark.parametrize("target", WORKLOADS)
@pytest.mark.parametrize("name", ["mlx_eager", "mlx_library"])
def test_honest_kernels_pass(tmp_path: Path, target: str, name: str):
    record = verdict(tmp_path, target, load_catalog(Root())[target].kernel(name, "mlx"))
    assert record.verdict == "PASS", record.results.reason
    assert record.device["key"].startswith("mlx-cpu")


@pytest.mark.parametrize("check", CHEATS)
def test_cheats_fail_in_the_check_that_is_meant_for_them(tmp_path: Path, check: str):
    path = tmp_path / "kernel.py"
    path.write_text(CHEATS[check])
    kernel = Kernel("relu_squared", "cheat", "mlx", ("mlx",), "candidate", "python", path)
    record = verdict(tmp_path, "relu_squared", kernel)
    assert record.verdict == "FAIL"
    failed = [found.name for found in record.results.checks if found.status == "fail"]
    assert check in failed, (failed, record.results.reason)
