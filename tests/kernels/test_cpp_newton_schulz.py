"""newton_schulz in C++ at every instruction set of this processor: several panels, threads that share a matrix."""

import shutil

import numpy as np
import pytest
import torch
from kernel_cases import kernel, oracle

from autoresearch_common import compiler, instruction_set
from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_trainer.kernel_files import load_kernel

TARGET = "newton_schulz"
pytestmark = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="no C++ compiler")


@pytest.fixture(params=[each.name for each in instruction_set.known()])
def level(request, monkeypatch):
    if request.param not in [each.name for each in instruction_set.available()]:
        pytest.skip(f"this processor has no {request.param}")
    monkeypatch.setenv(instruction_set.VARIABLE, request.param)


def error(found, g):
    (expected,) = oracle(TARGET).forward({"g": g.double().numpy(), "steps": 5})
    return np.abs(found.double().numpy() - expected).max()


@pytest.mark.parametrize("shape", [(3, 130, 130), (1, 200, 71), (2, 71, 200), (5, 65, 64), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_as_exact_as_the_baseline(level, shape, dtype):
    """On both sides of a panel's width, both ways round; more matrices than threads, fewer, and one left over."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype) * 0.01
    found = load_kernel(installed_kernel(TARGET, "cpp_fused"))(g, 5)
    assert found.shape == g.shape and found.dtype == torch.bfloat16
    assert error(found, g) <= max(1.5 * error(kernel(TARGET, "torch_eager")(g, 5), g), 0.0078125)


def test_a_matrix_that_is_not_finite_stays_alone(level):
    g = torch.randn((3, 40, 70), generator=torch.Generator().manual_seed(0))
    function = load_kernel(installed_kernel(TARGET, "cpp_fused"))
    clean = function(g, 5)
    g[1, 3, 5] = float("inf")
    found = function(g, 5)
    assert found[1].isnan().all() and torch.equal(found[::2], clean[::2])
