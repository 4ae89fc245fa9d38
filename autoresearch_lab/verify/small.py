"""Calls with the trainer's proportions and a few rows each, for where the trainer's own cannot be captured or run."""

from __future__ import annotations

import copy
from pathlib import Path

from autoresearch_common import workload as w
from autoresearch_common.workload import CapturedWorkload, Scalar, Spec
from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.workloads import WorkloadSet

PRESET = "small"


def small_workloads(target: Target, engine: str, *, ample: bool = False) -> WorkloadSet:
    """A set like a captured one, without samples: the values are the oracle's.

    ample: with as many rows as a small factor in the error needs to show, where such calls are written down.

    Raises:
        LabError: none are written down for this target.
    """
    name = target.name
    if name not in _CALLS:
        raise LabError(f"no small calls are written down for target {name}")
    calls = _AMPLE.get(name, _CALLS[name]) if ample else _CALLS[name]
    workloads: list[CapturedWorkload] = [
        {
            "id": f"{name}-{number:08x}",
            "target": name,
            "args": specs,
            "phase": target.contract.phase,
            "calls_per_step": 1.0,
            "sample": None,
        }
        for number, specs in enumerate(copy.deepcopy(calls))
    ]
    return WorkloadSet(
        name, engine, PRESET, {}, workloads, "0" * 64, Path(PRESET, f"{name}_ample.json" if ample else f"{name}.json")
    )


def _arrays(names: str, dtype: str, shape: tuple[int, ...], grad: bool = True) -> list[Spec]:
    """An array argument of each name."""
    strides = w.contiguous(shape)
    return [
        {"name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": strides, "grad": grad}
        for name in names.split()
    ]


def _scalars(**values: Scalar) -> list[Spec]:
    return [{"name": name, "kind": "scalar", "value": value} for name, value in values.items()]


_HALF, _FULL = "bfloat16", "float32"
_STREAM, _HEADS, _ANGLES = (2, 16, 64), (2, 16, 2, 32), (1, 16, 1, 16)


_EPS: dict[str, Scalar] = {"eps": 1.1920929e-07}
_LOSS: dict[str, Scalar] = {"softcap": 15.0, "reduction": "mean"}
_ADAMW: dict[str, Scalar] = {"step": 7, "lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-10, "weight_decay": 0.1}
_MUON: dict[str, Scalar] = {"mu": 0.9, "lr": 0.02, "weight_decay": 0.1, "beta2": 0.95, "steps": 5}
_ROTATION = _arrays("cos sin", _HALF, _ANGLES, False)
_MIX = [*_arrays("x x0", _HALF, _STREAM), *_arrays("resid_lambda x0_lambda", _FULL, ())]
_TARGETS = _arrays("targets", "int64", (48,), False)

# Target -> its calls, each a list of argument specs in the order of the signature.
_CALLS: dict[str, list[list[Spec]]] = {
    "adamw_update": [[*_arrays("p grad exp_avg exp_avg_sq", _FULL, (64, 32), False), *_scalars(**_ADAMW)]],
    "attention_mask": [[*_scalars(seq_len=32, window=16), *_arrays("like", _HALF, (0,), False)]],
    "loss_head": [
        [*_arrays("x", _HALF, (48, 32)), *_arrays("w_head", _FULL, (512, 32)), *_TARGETS, *_scalars(**_LOSS)]
    ],
    "mlp": [
        [
            *_arrays("x", _HALF, (2, 16, 32)),
            *_arrays("w_fc", _FULL, (128, 32)),
            *_arrays("w_proj", _FULL, (32, 128)),
        ]
    ],
    "muon_update": [
        [
            *_arrays("p grad momentum", _FULL, (2, 32, 32), False),
            *_arrays("second_momentum", _FULL, (2, 32, 1), False),
            *_scalars(**_MUON),
        ]
    ],
    "newton_schulz": [[*_arrays("g", _FULL, (2, 32, 32), False), *_scalars(steps=5)]],
    "qk_prelude": [[*_arrays("q k", _HALF, _HEADS), *_ROTATION, *_scalars(**_EPS)]],
    "relu_squared": [[*_arrays("x", _HALF, _STREAM)]],
    "residual_mix": [_MIX],
    "residual_norm": [[*_MIX, *_scalars(**_EPS)]],
    "rms_norm": [[*_arrays("x", _HALF, _STREAM), *_scalars(**_EPS)]],
    "rope": [[*_arrays("x", _HALF, _HEADS), *_ROTATION]],
    "softcap_cross_entropy": [[*_arrays("logits", _HALF, (48, 512)), *_TARGETS, *_scalars(**_LOSS)]],
    "value_gate": [[*_arrays("v ve", _HALF, _HEADS), *_arrays("gate", _HALF, _HEADS[:3])]],
    "windowed_attention": [[*_arrays("q k v", _HALF, (2, 32, 2, 16)), *_scalars(window=window)] for window in (16, 32)],
}

# The same with rows enough to tell a factor from rounding: 0.03 % of a gradient in bfloat16, 0.5 % of an iteration.
_AMPLE: dict[str, list[list[Spec]]] = {
    "adamw_update": [[*_arrays("p grad exp_avg exp_avg_sq", _FULL, (512, 128), False), *_scalars(**_ADAMW)]],
    "loss_head": [
        [
            *_arrays("x", _HALF, (1024, 64)),
            *_arrays("w_head", _FULL, (512, 64)),
            *_arrays("targets", "int64", (1024,), False),
            *_scalars(**_LOSS),
        ]
    ],
    "mlp": [
        [
            *_arrays("x", _HALF, (8, 128, 64)),
            *_arrays("w_fc", _FULL, (256, 64)),
            *_arrays("w_proj", _FULL, (64, 256)),
        ]
    ],
    "muon_update": [
        [
            *_arrays("p grad momentum", _FULL, (4, 128, 128), False),
            *_arrays("second_momentum", _FULL, (4, 128, 1), False),
            *_scalars(**_MUON),
        ]
    ],
    "newton_schulz": [[*_arrays("g", _FULL, (12, 128, 128), False), *_scalars(steps=5)]],
    "relu_squared": [[*_arrays("x", _HALF, (8, 256, 256))]],
    "residual_norm": [
        [*_arrays("x x0", _HALF, (8, 128, 64)), *_arrays("resid_lambda x0_lambda", _FULL, ()), *_scalars(**_EPS)]
    ],
    "rms_norm": [[*_arrays("x", _HALF, (8, 128, 64)), *_scalars(**_EPS)]],
    "value_gate": [[*_arrays("v ve", _HALF, (4, 128, 4, 32)), *_arrays("gate", _HALF, (4, 128, 4))]],
    "windowed_attention": [[*_arrays("q k v", _HALF, (4, 64, 4, 16)), *_scalars(window=32)]],
}
