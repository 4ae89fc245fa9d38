"""Helpers of these tests: a kernel over rows, and the skip on machines without a C++ compiler."""

import numpy as np
import pytest

from autoresearch_mlx import metal_cpu


@pytest.fixture
def run():
    """Call a kernel body once: run(source, inputs, outputs, grid, threadgroup, ...) -> (outputs, report).

    `inputs` maps names to arrays, `outputs` names to (shape, dtype). Findings do not raise.
    """
    if not metal_cpu.available():
        pytest.skip("no C++ compiler for Metal kernels on the CPU")

    def call(source, inputs, outputs, grid, threadgroup, *, check=False, template=(), init_value=None, **options):
        kernel = metal_cpu.metal_kernel("k", list(inputs), list(outputs), source, check=check, strict=False, **options)
        results = kernel(
            inputs=list(inputs.values()),
            output_shapes=[shape for shape, _ in outputs.values()],
            output_dtypes=[dtype for _, dtype in outputs.values()],
            grid=grid,
            threadgroup=threadgroup,
            template=list(template),
            init_value=init_value,
        )
        return results, kernel.report

    return call


@pytest.fixture
def rng():
    return np.random.default_rng(20)
