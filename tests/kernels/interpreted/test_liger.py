"""The library arms that Liger-Kernel supplies compute what their targets ask for."""

import importlib

import numpy as np
import pytest
import triton.language as tl
from kernel_cases import arguments, cotangents, kernel, oracle, run, wide, workload
from triton.runtime import interpreter

pytest.importorskip("liger_kernel", reason="the Python package 'liger_kernel' is not installed")

TARGETS = ("relu_squared", "rms_norm", "softcap_cross_entropy", "loss_head")
# They are rivals, not candidates: it is asked that they do the work, not that they round as little as a candidate must.
# Liger's squared ReLU computes in bfloat16, whose bits the interpreter takes for integers: float32 only.
CLOSE = 1e-5


@pytest.fixture(autouse=True)
def device_functions(monkeypatch):
    """What Liger uses and the interpreter lacks: CUDA's rsqrt and tanh, and float arguments that have methods."""
    convert = interpreter._implicit_cvt

    def converted(argument):
        if isinstance(argument, float):
            return tl.tensor(interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)
        return convert(argument)

    monkeypatch.setattr(interpreter, "_implicit_cvt", converted)
    monkeypatch.setattr(importlib.import_module("liger_kernel.ops.rms_norm"), "rsqrt", lambda x: tl.rsqrt(x))
    cross_entropy = importlib.import_module("liger_kernel.ops.cross_entropy")
    monkeypatch.setattr(cross_entropy, "tanh", lambda x: 2.0 * tl.sigmoid(2.0 * x) - 1.0)


@pytest.mark.parametrize("target", TARGETS)
def test_does_the_work_of_its_target(target):
    case, rng = workload(target, "float32"), np.random.default_rng(5)
    args = arguments(case, oracle(target).inputs(case, rng, "typical"))
    exact = {name: wide(value) for name, value in args.items()}
    reference = oracle(target).forward(exact)
    g = cotangents(case, reference, rng)
    expected = oracle(target).backward(exact, g)

    outputs, gradients = run(kernel(target, "liger"), args, g)

    for ours, right in zip(outputs, reference, strict=True):
        assert distance(ours, right) < CLOSE
    assert gradients
    for name, gradient in gradients.items():
        assert distance(gradient, expected[name]) < CLOSE, name


def distance(ours, right):
    """Root-mean-square difference relative to the reference's root mean square."""
    ours, right = np.asarray(wide(ours)), np.asarray(right)
    return np.linalg.norm(ours - right) / np.linalg.norm(right)
