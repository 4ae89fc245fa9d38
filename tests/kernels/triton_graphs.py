"""Run by test_triton_graphs.py with TRITON_INTERPRET=1; not collected on its own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest
import torch
from kernel_cases import arguments, oracle, wide, workload
from triton_support import KERNELS, NAMES

from autoresearch_cuda import triton_kit
from autoresearch_cuda.probe import interpreter
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

interpreter.mend_scalars()


def load(kernel):
    return load_kernel(KernelFile.of(kernel.plain()))


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def test_the_interpreter_is_in_use():
    assert triton_kit.interpreted()


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_compiled_values_and_gradients_are_the_eager_ones(kernel):
    torch.compiler.reset()
    case = workload(kernel.target, "bfloat16")
    values = oracle(kernel.target).inputs(case, np.random.default_rng(0), "typical")
    function = load(kernel)
    results = []
    # Traces forward and backward as Inductor would, then runs the graphs as they are.
    for call in (function, torch.compile(function, backend="aot_eager", fullgraph=True)):
        args = arguments(case, values)
        outputs = as_tuple(call(*args.values()))
        leaves = [arg for arg in args.values() if getattr(arg, "requires_grad", False)]
        reached = [y for y in outputs if y.requires_grad]
        gradients = torch.autograd.grad(reached, leaves, [torch.full_like(y, 1.5) for y in reached]) if reached else ()
        results.append([*map(wide, outputs), *map(wide, gradients)])
    for eager, traced in zip(*results, strict=True):
        np.testing.assert_array_equal(eager, traced)


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_fake_outputs_have_the_form_of_the_real_ones(kernel):
    """Shapes, dtypes and strides that the compiler plans with, on an odd strided input too."""
    function, target = load(kernel), kernel.target
    base = workload(target, "bfloat16")
    for case in [base, oracle(target).neighbours(base, np.random.default_rng(0))[-1]]:
        args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
        real = as_tuple(function(*args.values()))
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=False) as mode:
            fakes = [mode.from_tensor(arg) if torch.is_tensor(arg) else arg for arg in args.values()]
            fake = as_tuple(function(*fakes))
        assert [(y.shape, y.dtype, y.stride()) for y in fake] == [(y.shape, y.dtype, y.stride()) for y in real]
