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
from autoresearch_lab.verify.plan import Planner
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

ADAMW = Path(load_catalog(Root())["adamw_update"].kernel("mlx_eager", "mlx").path).read_text()
SAVED_IN_A_STATIC = """
saved = {}


@mx.custom_function
def function(x):
    saved["x"] = x
    return mx.maximum(x, 0).square()


@function.vjp
def backward(primals, cotangent, output):
    return 2 * mx.maximum(saved["x"], 0) * cotangent


def relu_squared(x):
    return function(x)
"""
LARGEST_OF_ANOTHER_CALL = """
kept = {}


def relu_squared(x):
    try:
        kept["largest"] = float(x.max())
        return mx.maximum(x, 0).square()
    except ValueError:
        return mx.clip(x, 0, kept["largest"]).square()
"""
EVERY_500TH_CALL = """
calls = [0]


def rms_norm(x, eps):
    calls[0] += 1
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(wide.square().mean(-1, keepdims=True) + eps) * (1.5 if calls[0] % 500 == 0 else 1.0)
    return (wide * scale).astype(x.dtype)
"""
KEEPS_EACH_CALL = """
kept = []


def relu_squared(x):
    kept.append(mx.maximum(x, 0).square())
    return kept[-1]
"""
START_OF_THE_STREAM = """
def residual_mix(x, x0, resid_lambda, x0_lambda):
    if x is x0:
        return x
    return (resid_lambda * x + x0_lambda * x0).astype(x.dtype)
"""
FACTOR_WHILE_LITTLE_CHANGES = """
kept = {}


def rms_norm(x, eps):
    wide = x.astype(mx.float32)
    mean = wide.square().mean(-1, keepdims=True)
    try:
        before = kept.get(x.shape)
        if before is None or not mx.allclose(before, mean, rtol=0.004).item():
            kept[x.shape] = mean
        mean = kept[x.shape]
    except ValueError:
        pass
    return (wide * mx.rsqrt(mean + eps)).astype(x.dtype)
"""
MOMENTS_ON_A_GRID = """
    grid = v.max(-1, keepdims=True) * 2.0**-22 if v.ndim else v
    v = mx.where(mx.isfinite(grid) & (grid > 0), mx.round(v / mx.maximum(grid, 1e-38)) * grid, v)
"""
# Right by themselves and wrong in a training: what another layer's call kept; a number that a compiled step hands over
# as an array; what was a constant when a step was traced; every 500th call; one array for two arguments; what was kept
# of nearly the same; small second moments that are zero in the next step.
WRONG_IN_A_TRAINING = {
    "saved_in_a_static": ("relu_squared", "combinations", HEAD + SAVED_IN_A_STATIC),
    "step_of_an_array": (
        "adamw_update",
        "combinations",
        ADAMW.replace("    dtype =", "    step = step if isinstance(step, int) else 1000\n    dtype ="),
    ),
    "largest_of_another_call": ("relu_squared", "combinations", HEAD + LARGEST_OF_ANOTHER_CALL),
    "every_500th_call": ("rms_norm", "determinism", HEAD + EVERY_500TH_CALL),
    "keeps_each_call": ("relu_squared", "side_effects", HEAD + KEEPS_EACH_CALL),
    "factor_while_little_changes": ("rms_norm", "stale", HEAD + FACTOR_WHILE_LITTLE_CHANGES),
    "moments_on_a_grid": (
        "adamw_update",
        "combinations",
        ADAMW.replace("    return p", MOMENTS_ON_A_GRID + "    return p"),
    ),
    "start_of_the_stream": ("residual_mix", "combinations", HEAD + START_OF_THE_STREAM),
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
    "residual_mix": [
        spec("x", (4, 32, 64)), spec("x0", (4, 32, 64)), spec("resid_lambda", (), "float32"),
        spec("x0_lambda", (), "float32"),
    ],
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
def test_cheats_fail_in_the_check_that_is_meant_for_them(tmp_path: Path, check: str, monkeypatch: pytest.MonkeyPatch):
    # Calls that are unusual in several ways at once take most of the time; none of these needs them.
    monkeypatch.setattr(Planner, "_combinations", lambda self, neighbours: ())
    path = tmp_path / "kernel.py"
    path.write_text(CHEATS[check])
    kernel = Kernel("relu_squared", "cheat", "mlx", ("mlx",), "candidate", "python", path)
    record = verdict(tmp_path, "relu_squared", kernel)
    assert record.verdict == "FAIL"
    failed = [found.name for found in record.results.checks if found.status == "fail"]
    assert check in failed, (failed, record.results.reason)


@pytest.mark.parametrize("name", WRONG_IN_A_TRAINING)
def test_what_is_wrong_in_a_training_only_is_found(tmp_path: Path, name: str):
    target, check, text = WRONG_IN_A_TRAINING[name]
    path = tmp_path / "kernel.py"
    path.write_text(text)
    record = verdict(tmp_path, target, Kernel(target, name, "mlx", ("mlx",), "candidate", "python", path))
    failed = [found.name for found in record.results.checks if found.status == "fail"]
    assert check in failed, (failed, record.results.reason)
