"""The calls that the `upstream` trainer makes of every target, with two sequences in a batch, and their comparison with
the oracle. Memory and the oracle's time grow with the batch, and nothing else about the calls does."""

from typing import Any

import numpy as np
import torch

from autoresearch_common.arrays import is_float, storage
from autoresearch_common.workload import contiguous
from autoresearch_lab.catalog import Target
from autoresearch_trainer.config import PRESETS

MODEL = PRESETS["upstream"].model
BATCH = 2
T, C, H, D, V = MODEL.sequence_len, MODEL.n_embd, MODEL.n_head, MODEL.head_dim, MODEL.vocab_size
ROWS = BATCH * T
STREAM, HEADS, ANGLES = (BATCH, T, C), (BATCH, T, H, D), (1, T, 1, D // 2)
HALF, FULL = "bfloat16", "float32"
EPS = 1.1920929e-07

Spec = dict[str, Any]


def array(name: str, shape: tuple[int, ...], dtype: str = HALF, grad: bool = True) -> Spec:
    strides = contiguous(shape)
    return {"name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": strides, "grad": grad}


def scalars(**values: Any) -> list[Spec]:
    return [{"name": name, "kind": "scalar", "value": value} for name, value in values.items()]


def _angles() -> list[Spec]:
    return [array(name, ANGLES, grad=False) for name in ("cos", "sin")]


def _mix() -> list[Spec]:
    return [array("x", STREAM), array("x0", STREAM), *(array(n, (), FULL) for n in ("resid_lambda", "x0_lambda"))]


def _plain(names: tuple[str, ...], shape: tuple[int, ...]) -> list[Spec]:
    return [array(name, shape, FULL, grad=False) for name in names]


_CAP = scalars(softcap=15.0, reduction="mean")
_TARGETS = array("targets", (ROWS,), "int64", grad=False)
_MUON = scalars(mu=0.9, lr=0.02, weight_decay=0.1, beta2=0.95, steps=5)
_ADAMW = scalars(step=7, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-10, weight_decay=0.0)
CALLS: dict[str, list[list[Spec]]] = {
    "rms_norm": [[array("x", STREAM), *scalars(eps=EPS)], [array("x", HEADS), *scalars(eps=EPS)]],
    "rope": [[array("x", HEADS), *_angles()]],
    "windowed_attention": [[*(array(name, HEADS) for name in "qkv"), *scalars(window=w)] for w in (T // 2, T)],
    "newton_schulz": [[array("g", (8, C, C), FULL, grad=False), *scalars(steps=5)]],
    "softcap_cross_entropy": [[array("logits", (ROWS, V)), _TARGETS, *_CAP]],
    "relu_squared": [[array("x", (BATCH, T, 4 * C))]],
    "value_gate": [[array("v", HEADS), array("ve", HEADS), array("gate", HEADS[:3])]],
    "residual_mix": [_mix()],
    "residual_norm": [[*_mix(), *scalars(eps=EPS)]],
    "qk_prelude": [[array("q", HEADS), array("k", HEADS), *_angles(), *scalars(eps=EPS)]],
    "mlp": [[array("x", STREAM), array("w_fc", (4 * C, C), FULL), array("w_proj", (C, 4 * C), FULL)]],
    "loss_head": [[array("x", (ROWS, C)), array("w_head", (V, C), FULL), _TARGETS, *_CAP]],
    "adamw_update": [[*_plain(("p", "grad", "exp_avg", "exp_avg_sq"), (V, C)), *_ADAMW]],
    "muon_update": [
        [*_plain(("p", "grad", "momentum"), (8, C, C)), array("second_momentum", (8, C, 1), FULL, grad=False), *_MUON]
    ],
}


def workload(target: str, number: int) -> dict[str, Any]:
    return {"id": f"{target}-{number:08x}", "target": target, "args": CALLS[target][number], "calls_per_step": 1.0}


def values(target: Target, case: dict[str, Any], seed: int) -> dict[str, Any]:
    """Typical arguments as they are stored: arrays in their dtype, scalars as they are."""
    drawn = target.oracle.inputs(case, np.random.default_rng(seed), "typical")
    dtypes = {spec["name"]: spec["dtype"] for spec in case["args"] if spec["kind"] == "array"}
    given = {spec["name"]: spec.get("value") for spec in case["args"]}
    for name, dtype in dtypes.items():
        given[name] = np.asarray(drawn[name]).astype(storage(dtype))
    return given


def wide(arguments: dict[str, Any]) -> dict[str, Any]:
    """As an oracle takes them: floats in float64."""
    return {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) and is_float(value) else value
        for name, value in arguments.items()
    }


def on_gpu(case: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The same as tensors on the GPU; those with gradients are leaves."""
    found = {}
    for spec in case["args"]:
        value = arguments[spec["name"]]
        if spec["kind"] == "array":
            # torch takes no bfloat16 from NumPy; every bfloat16 is exact in float32.
            plain = torch.from_numpy(np.ascontiguousarray(value.astype(np.float32) if is_float(value) else value))
            value = plain.reshape(value.shape).to("cuda", getattr(torch, spec["dtype"]))
            value.requires_grad_(spec["grad"])
        found[spec["name"]] = value
    return found


def error(found: torch.Tensor, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of what is expected."""
    difference = found.detach().double().cpu().numpy() - expected
    scale = float(np.sqrt(np.mean(np.square(expected))))
    return float(np.sqrt(np.mean(np.square(difference)))) / (scale or 1.0)
