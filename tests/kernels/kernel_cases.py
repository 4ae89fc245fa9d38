"""Small workloads of every target, and how a kernel is run on one and compared with the oracle."""

import math
import os
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from autoresearch_common.oracles import load_oracle
from autoresearch_common.workload import contiguous
from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_trainer.kernel_files import KERNELS_ROOT, TARGETS, load_kernel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int64": torch.int64}
ALL_KERNELS = [
    (target, path.stem)
    for target in TARGETS
    for path in sorted((KERNELS_ROOT / target).glob("*.py"))
    if path.stem.startswith(("torch_", "cpp_"))
]
NATIVE_KERNELS = [(target, name) for target, name in ALL_KERNELS if name.startswith("cpp_")]


@cache
def oracle(target: str) -> ModuleType:
    return load_oracle(KERNELS_ROOT, target)


@cache
def contract(target: str) -> dict[str, Any]:
    return tomllib.loads(Path(KERNELS_ROOT / target / "target.toml").read_text())


@cache
def kernel(target: str, name: str):
    return load_kernel(installed_kernel(target, name))


def array(name: str, shape: tuple[int, ...], dtype: str, grad: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "array",
        "dtype": dtype,
        "shape": list(shape),
        "strides": contiguous(shape),
        "grad": grad,
    }


# Matrices in a stack: more than a kernel takes at once; fewer where every program of each is interpreted.
STACK = 2 if os.environ.get("TRITON_INTERPRET") == "1" else 9


def workload(target: str, dtype: str = "float32") -> dict[str, Any]:
    """A small call of the target with the proportions of the trainer's. The stacked optimizer is float32 only."""
    dtype = "float32" if target == "muon_update" else dtype
    heads = (2, 33, 2, 16)
    arrays = {
        "rms_norm": [("x", (2, 9, 64), True)],
        "rope": [("x", heads, True), ("cos", (1, 33, 1, 8), False), ("sin", (1, 33, 1, 8), False)],
        "attention_mask": [("like", (4,), False)],
        "windowed_attention": [("q", heads, True), ("k", heads, True), ("v", heads, True)],
        "newton_schulz": [("g", (STACK, 24, 40), False)],
        "softcap_cross_entropy": [("logits", (40, 300), True)],
        "relu_squared": [("x", (2, 9, 128), True)],
        "value_gate": [("v", heads, True), ("ve", heads, True), ("gate", heads[:3], True)],
        "residual_mix": [("x", (2, 9, 64), True), ("x0", (2, 9, 64), True)],
        "adamw_update": [(name, (33, 40), False) for name in ("p", "grad", "exp_avg", "exp_avg_sq")],
        "muon_update": [(name, (STACK, 24, 40), False) for name in ("p", "grad", "momentum")],
        "qk_prelude": [
            ("q", heads, True),
            ("k", heads, True),
            *((name, (1, 33, 1, 8), False) for name in ("cos", "sin")),
        ],
        "residual_norm": [("x", (2, 9, 64), True), ("x0", (2, 9, 64), True)],
        "mlp": [("x", (2, 9, 64), True)],
        "loss_head": [("x", (40, 32), True)],
    }[target]
    args = [array(name, shape, dtype, grad) for name, shape, grad in arrays]
    extra = {
        "softcap_cross_entropy": [array("targets", (40,), "int64")],
        "residual_mix": [array(name, (), "float32", True) for name in ("resid_lambda", "x0_lambda")],
        "muon_update": [array("second_momentum", (STACK, 1, 40), dtype)],
        "residual_norm": [array(name, (), "float32", True) for name in ("resid_lambda", "x0_lambda")],
        "mlp": [array("w_fc", (160, 64), "float32", True), array("w_proj", (64, 160), "float32", True)],
        "loss_head": [array("w_head", (300, 32), "float32", True), array("targets", (40,), "int64")],
    }
    scalars = {
        "rms_norm": {"eps": 1.1920929e-07},
        "attention_mask": {"seq_len": 33, "window": 16},
        "windowed_attention": {"window": 16},
        "newton_schulz": {"steps": 5},
        "softcap_cross_entropy": {"softcap": 15.0, "reduction": "mean"},
        "adamw_update": {"step": 3, "lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-10, "weight_decay": 0.1},
        "muon_update": {"mu": 0.95, "lr": 0.04, "weight_decay": 0.2, "beta2": 0.95, "steps": 5},
        "qk_prelude": {"eps": 1.1920929e-07},
        "residual_norm": {"eps": 1.1920929e-07},
        "loss_head": {"softcap": 15.0, "reduction": "mean"},
    }
    args += extra.get(target, [])
    args += [{"name": name, "kind": "scalar", "value": value} for name, value in scalars.get(target, {}).items()]
    order = contract(target)["signature"].split(")")[0].strip("( ").split(", ")
    return {"target": target, "args": sorted(args, key=lambda spec: order.index(spec["name"])), "phase": "forward"}


def tensor(spec: dict[str, Any], values: np.ndarray) -> torch.Tensor:
    """A leaf with the values rounded to the spec's dtype and laid out with its strides."""
    extent = 1 + sum((n - 1) * stride for n, stride in zip(spec["shape"], spec["strides"], strict=True) if n)
    storage = torch.zeros(extent, dtype=DTYPES[spec["dtype"]])
    view = storage.as_strided(spec["shape"], spec["strides"])
    view.copy_(torch.from_numpy(np.array(values)))
    return view.requires_grad_(spec["grad"])


def arguments(case: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Arguments in the order of the signature; scalars as `values` has them, which may differ from the spec's."""
    return {
        spec["name"]: tensor(spec, values[spec["name"]])
        if spec["kind"] == "array"
        else values.get(spec["name"], spec["value"])
        for spec in case["args"]
    }


def wide(value: Any) -> Any:
    """What the oracle takes: a tensor's exact values as float64 (integers stay integers), anything else unchanged."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    return (value.double() if value.is_floating_point() else value).numpy().copy()


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """What a kernel returned, one array or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def run(function, args: dict[str, Any], cotangents: tuple[np.ndarray, ...] | None = None):
    """Outputs as float64 arrays, and the gradients by name where cotangents are given."""
    outputs = as_tuple(function(*args.values()))
    gradients = {}
    if cotangents is not None:
        wanted = {
            name: value for name, value in args.items() if isinstance(value, torch.Tensor) and value.requires_grad
        }
        g = tuple(torch.from_numpy(np.asarray(c)).to(o.dtype) for c, o in zip(cotangents, outputs, strict=True))
        gradients = dict(zip(wanted, map(wide, torch.autograd.grad(outputs, list(wanted.values()), g)), strict=True))
    return tuple(map(wide, outputs)), gradients


def cotangents(case: dict[str, Any], reference: tuple[np.ndarray, ...], rng: np.random.Generator):
    """Random cotangents that every output dtype holds exactly."""
    return tuple(torch.from_numpy(rng.standard_normal(y.shape)).bfloat16().double().numpy() for y in reference)


def sensitivity(target: str, exact: dict[str, Any], g: tuple[np.ndarray, ...] | None):
    """Change of each output and gradient per unit of relative change of the inputs (tuple, dict).

    Where a result cancels, no algorithm in finite precision can be more exact than that.
    """
    rng, step = np.random.default_rng(0), 1e-7

    def nudged(value):
        floating = isinstance(value, np.ndarray) and value.dtype == np.float64
        return value * (1.0 + step * rng.choice([-1.0, 1.0], size=value.shape)) if floating else value

    args = {name: nudged(value) for name, value in exact.items()}
    outputs = [
        np.abs(np.subtract(a, b, dtype=float)) / step
        for a, b in zip(oracle(target).forward(args), oracle(target).forward(exact), strict=True)
    ]
    if g is None:
        return outputs, {}
    before, after = oracle(target).backward(exact, g), oracle(target).backward(args, tuple(map(nudged, g)))
    return outputs, {name: np.abs(after[name] - before[name]) / step for name in before}


def error(actual: np.ndarray, reference: np.ndarray, condition: np.ndarray | float = 0.0) -> float:
    """Largest error of any row relative to its largest reference value; infinite where NaN or Inf differ.

    `condition` is the sensitivity; a row that cancels to nothing is judged by the size of the others.
    """
    assert actual.shape == reference.shape
    condition = np.broadcast_to(condition, reference.shape)
    actual, reference, condition = (np.atleast_1d(a).astype(float) for a in (actual, reference, condition))
    same = (actual == reference) | (np.isnan(actual) & np.isnan(reference))
    if not np.all(same | (np.isfinite(reference) & np.isfinite(actual))):
        return math.inf
    difference = np.where(same, 0.0, np.abs(np.where(same, 0.0, actual) - np.where(same, 0.0, reference)))
    size = np.where(np.isfinite(reference), np.maximum(np.abs(reference), np.nan_to_num(condition)), 0.0)
    scale = np.max(size, axis=-1, initial=0.0, keepdims=True)
    typical = np.median(scale[scale > 0]) if np.any(scale > 0) else 0.0
    # Below 1e-35 the types themselves give out.
    return float(np.max(difference / np.maximum(scale, max(typical, 1e-35)), initial=0.0))


def allowed(target: str, dtype: str, baseline_error: float) -> float:
    """The target's tolerance for an output or gradient of this dtype."""
    tolerance = contract(target)["tolerance"]
    return max(tolerance["factor"] * baseline_error, tolerance["floor"].get(dtype, 0.0))


def output_dtypes(case: dict[str, Any]) -> list[str]:
    """The dtype of each output, with "like:x" resolved."""
    dtypes = {spec["name"]: spec.get("dtype") for spec in case["args"]}
    return [dtypes.get(out["dtype"].removeprefix("like:"), out["dtype"]) for out in contract(case["target"])["outputs"]]
