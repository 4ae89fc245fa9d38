"""The calls of one cpu-nano training step (8 sequences of 256 tokens, width 128, 8192 tokens), by target.

The same shapes on every machine and in every checkout, so that figures can be compared over time. What decides about a
kernel is `kernel-lab bench` on captured calls, not this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from autoresearch_common.workload import contiguous

B, T, C, HEADS, WIDTH, VOCAB, HIDDEN = 8, 256, 128, 1, 128, 8192, 512
N = B * T


class Argument(TypedDict, total=False):
    """One argument of a call: an array with its layout (strides in elements), or a scalar with its value."""

    name: str
    kind: str
    dtype: str
    shape: list[int]
    strides: Sequence[int]
    grad: bool
    value: float | int | str


class NanoCall(TypedDict):
    """A call as a workload that was never captured."""

    id: str
    target: str
    args: list[Argument]
    sample: None


def array(name: str, shape: tuple[int, ...], dtype: str = "bfloat16", grad: bool = False) -> Argument:
    strides = contiguous(shape)
    return {"name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": strides, "grad": grad}


def scalar(name: str, value: float | int | str) -> Argument:
    return {"name": name, "kind": "scalar", "value": value}


def heads(name: str, grad: bool = True) -> Argument:
    return array(name, (B, T, HEADS, WIDTH), grad=grad)


def tokens(name: str) -> Argument:
    return array(name, (B, T, C), grad=True)


def angles(name: str) -> Argument:
    return array(name, (1, T, 1, WIDTH // 2))


def adam(shape: tuple[int, ...], dtype: str) -> list[Argument]:
    arrays = [array(name, shape, dtype) for name in ("p", "grad", "exp_avg", "exp_avg_sq")]
    settings: dict[str, float] = {
        "step": 10,
        "lr": 0.01,
        "beta1": 0.8,
        "beta2": 0.95,
        "eps": 1e-10,
        "weight_decay": 0.0,
    }
    return arrays + [scalar(name, value) for name, value in settings.items()]


def muon(shape: tuple[int, int, int]) -> list[Argument]:
    count, rows, columns = shape
    second = (count, rows, 1) if rows >= columns else (count, 1, columns)
    arrays = [array(name, shape, "float32") for name in ("p", "grad", "momentum")]
    settings: dict[str, float] = {"mu": 0.9, "lr": 0.04, "weight_decay": 0.2, "beta2": 0.95, "steps": 5}
    scalars = [scalar(name, value) for name, value in settings.items()]
    return [*arrays, array("second_momentum", second, "float32"), *scalars]


EPS, CAP, MEAN = scalar("eps", 1.1920929e-07), scalar("softcap", 15.0), scalar("reduction", "mean")
LAMBDAS = [array("resid_lambda", (), "float32", grad=True), array("x0_lambda", (), "float32", grad=True)]
TARGETS = array("targets", (N,), "int64")

CALLS: dict[str, dict[str, list[Argument]]] = {
    "rms_norm": {"stream": [tokens("x"), EPS], "heads": [heads("x"), EPS]},
    "rope": {"heads": [heads("x"), angles("cos"), angles("sin")]},
    "attention_mask": {"window": [scalar("seq_len", T), scalar("window", T // 2), array("like", (0,))]},
    "windowed_attention": {
        "window": [heads("q"), heads("k"), heads("v"), scalar("window", T // 2)],
        "whole": [heads("q"), heads("k"), heads("v"), scalar("window", T)],
    },
    "newton_schulz": {
        "square": [array("g", (8, C, C), "float32"), scalar("steps", 5)],
        "tall": [array("g", (2, HIDDEN, C), "float32"), scalar("steps", 5)],
    },
    "softcap_cross_entropy": {"mean": [array("logits", (N, VOCAB), grad=True), TARGETS, CAP, MEAN]},
    "relu_squared": {"hidden": [array("x", (B, T, HIDDEN), grad=True)]},
    "value_gate": {"heads": [heads("v"), heads("ve"), array("gate", (B, T, HEADS), grad=True)]},
    "residual_mix": {"stream": [tokens("x"), tokens("x0"), *LAMBDAS]},
    "adamw_update": {"head": adam((VOCAB, C), "float32"), "table": adam((VOCAB, C), "bfloat16")},
    "muon_update": {"square": muon((8, C, C)), "tall": muon((2, HIDDEN, C))},
    "qk_prelude": {"heads": [heads("q"), heads("k"), angles("cos"), angles("sin"), EPS]},
    "residual_norm": {"stream": [tokens("x"), tokens("x0"), *LAMBDAS, EPS]},
    "mlp": {
        "stream": [
            tokens("x"),
            array("w_fc", (HIDDEN, C), "float32", grad=True),
            array("w_proj", (C, HIDDEN), "float32", grad=True),
        ]
    },
    "loss_head": {
        "mean": [array("x", (N, C), grad=True), array("w_head", (VOCAB, C), "float32", grad=True), TARGETS, CAP, MEAN]
    },
}


def workload(target: str, call: str) -> NanoCall:
    """One of the calls as a workload."""
    return {"id": f"{target}-{call}", "target": target, "args": CALLS[target][call], "sample": None}
