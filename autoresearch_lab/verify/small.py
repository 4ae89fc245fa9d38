"""Calls with the trainer's proportions and a few rows each, for where the trainer's own cannot be captured or run."""

from __future__ import annotations

from pathlib import Path

from autoresearch_common import workload as w
from autoresearch_common.workload import ArraySpec, CapturedWorkload, Scalar, ScalarSpec, Spec
from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.workloads import WorkloadSet

PRESET = "small"


def small_workloads(target: Target, engine: str) -> WorkloadSet:
    """A set like a captured one, without samples: the values are the oracle's.

    Raises:
        LabError: none are written down for this target.
    """
    name = target.name
    if name not in _CALLS:
        raise LabError(f"no small calls are written down for target {name}")
    workloads: list[CapturedWorkload] = [
        {
            "id": f"{name}-{number:08x}",
            "target": name,
            "args": specs,
            "phase": target.contract.phase,
            "calls_per_step": 1.0,
            "sample": None,
        }
        for number, specs in enumerate(_CALLS[name]())
    ]
    return WorkloadSet(name, engine, PRESET, {}, workloads, "0" * 64, Path(PRESET, f"{name}.json"))


def _array(name: str, dtype: str, shape: tuple[int, ...], grad: bool = True) -> ArraySpec:
    strides = w.contiguous(shape)
    return {"name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": strides, "grad": grad}


def _scalars(**values: Scalar) -> list[ScalarSpec]:
    return [{"name": name, "kind": "scalar", "value": value} for name, value in values.items()]


_HALF, _FULL = "bfloat16", "float32"
_STREAM, _HEADS, _ANGLES = (2, 16, 64), (2, 16, 2, 32), (1, 16, 1, 16)


def _rms_norm() -> list[list[Spec]]:
    return [[_array("x", _HALF, _STREAM), *_scalars(eps=1.1920929e-07)]]


def _relu_squared() -> list[list[Spec]]:
    return [[_array("x", _HALF, _STREAM)]]


def _rope() -> list[list[Spec]]:
    return [[_array("x", _HALF, _HEADS), *(_array(name, _HALF, _ANGLES, False) for name in ("cos", "sin"))]]


def _attention_mask() -> list[list[Spec]]:
    return [[*_scalars(seq_len=32, window=16), _array("like", _HALF, (0,), False)]]


def _windowed_attention() -> list[list[Spec]]:
    heads = [_array(name, _HALF, (2, 32, 2, 16)) for name in "qkv"]
    return [[*heads, *_scalars(window=window)] for window in (16, 32)]


def _softcap_cross_entropy() -> list[list[Spec]]:
    rows = [_array("logits", _HALF, (48, 512)), _array("targets", "int64", (48,), False)]
    return [[*rows, *_scalars(softcap=15.0, reduction="mean")]]


def _value_gate() -> list[list[Spec]]:
    return [[*(_array(name, _HALF, _HEADS) for name in ("v", "ve")), _array("gate", _HALF, _HEADS[:3])]]


def _residual_mix() -> list[list[Spec]]:
    factors = [_array(name, _FULL, ()) for name in ("resid_lambda", "x0_lambda")]
    return [[*(_array(name, _HALF, _STREAM) for name in ("x", "x0")), *factors]]


def _newton_schulz() -> list[list[Spec]]:
    return [[_array("g", _FULL, (2, 32, 32), False), *_scalars(steps=5)]]


def _adamw_update() -> list[list[Spec]]:
    arrays = [_array(name, _FULL, (64, 32), False) for name in ("p", "grad", "exp_avg", "exp_avg_sq")]
    return [[*arrays, *_scalars(step=7, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-10, weight_decay=0.1)]]


def _muon_update() -> list[list[Spec]]:
    arrays = [_array(name, _FULL, (2, 32, 32), False) for name in ("p", "grad", "momentum")]
    settings = _scalars(mu=0.9, lr=0.02, weight_decay=0.1, beta2=0.95, steps=5)
    return [[*arrays, _array("second_momentum", _FULL, (2, 32, 1), False), *settings]]


def _qk_prelude() -> list[list[Spec]]:
    heads = [_array(name, _HALF, _HEADS) for name in "qk"]
    return [[*heads, *(_array(name, _HALF, _ANGLES, False) for name in ("cos", "sin")), *_scalars(eps=1.1920929e-07)]]


def _residual_norm() -> list[list[Spec]]:
    return [[*specs, *_scalars(eps=1.1920929e-07)] for specs in _residual_mix()]


def _mlp() -> list[list[Spec]]:
    return [[_array("x", _HALF, (2, 16, 32)), _array("w_fc", _FULL, (128, 32)), _array("w_proj", _FULL, (32, 128))]]


def _loss_head() -> list[list[Spec]]:
    rows = [_array("x", _HALF, (48, 32)), _array("w_head", _FULL, (512, 32)), _array("targets", "int64", (48,), False)]
    return [[*rows, *_scalars(softcap=15.0, reduction="mean")]]


# Target -> its calls, each a list of argument specs in the order of the signature.
_CALLS = {
    "adamw_update": _adamw_update,
    "attention_mask": _attention_mask,
    "loss_head": _loss_head,
    "mlp": _mlp,
    "muon_update": _muon_update,
    "newton_schulz": _newton_schulz,
    "qk_prelude": _qk_prelude,
    "relu_squared": _relu_squared,
    "residual_mix": _residual_mix,
    "residual_norm": _residual_norm,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "softcap_cross_entropy": _softcap_cross_entropy,
    "value_gate": _value_gate,
    "windowed_attention": _windowed_attention,
}
