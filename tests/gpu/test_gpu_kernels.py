"""Every Triton kernel, and every FlashAttention that is installed, on the GPU at the trainer's real shapes: results and
gradients against the float64 oracle, no worse than the contract allows beside the baseline's own error; and under
torch.compile the same as without."""

import numpy as np
import pytest
import torch
from trainer_calls import CALLS, error, on_gpu, values, wide, workload

from autoresearch_common.arrays import storage
from autoresearch_cuda.probe.stopwatch import outputs_of
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

CATALOG = load_catalog(Root())
CASES = [
    pytest.param(
        *(target, kernel, number),
        id=f"{target.name}={kernel.name}-{number}",
        marks=[] if kernel.installed else [pytest.mark.skip(reason=kernel.obstacle("cuda"))],
    )
    for target in CATALOG.values()
    for kernel in target.kernels
    if kernel.language == "triton" or (kernel.requires and target.name == "windowed_attention")
    for number in range(len(CALLS.get(target.name, [None])))
]


def function_of(kernel):
    return load_kernel(KernelFile.of(kernel.plain()))


def both_ways(function, case, arguments, cotangents):
    """Outputs, then gradients in the order of the arguments."""
    given = on_gpu(case, arguments)
    outputs = outputs_of(function(*given.values()))
    leaves = [value for value in given.values() if torch.is_tensor(value) and value.requires_grad]
    reached = [(output, c) for output, c in zip(outputs, cotangents, strict=True) if output.requires_grad]
    if not leaves:
        return outputs
    gradients = torch.autograd.grad([output for output, _ in reached], leaves, [c.to(o) for o, c in reached])
    return [*outputs, *gradients]


def draw_cotangents(expected, seed):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(np.asarray(rng.standard_normal(np.shape(value)))) for value in expected]


@pytest.mark.parametrize(("target", "kernel", "number"), CASES)
def test_results_and_gradients_are_the_oracles(target, kernel, number):
    assert target.name in CALLS, f"no trainer's call of {target.name} is written down in trainer_calls.py"
    case = workload(target.name, number)
    arguments = values(target, case, seed=number)
    expected = list(target.oracle.forward(wide(arguments)))
    cotangents = draw_cotangents(expected, seed=number + 1)
    baseline_function = function_of(target.baseline("torch", "cuda"))
    baseline = both_ways(baseline_function, case, arguments, cotangents)
    found = both_ways(function_of(kernel), case, arguments, cotangents)
    names = [spec["name"] for spec in case["args"] if spec.get("grad")]
    if names:
        # What reaches backward was rounded to the outputs' dtypes.
        dtypes = [str(output.dtype).removeprefix("torch.") for output in baseline[: len(expected)]]
        given = tuple(
            c.numpy().astype(storage(dtype)).astype(np.float64) for c, dtype in zip(cotangents, dtypes, strict=True)
        )
        gradients = target.oracle.backward(wide(arguments), given)
        expected += [gradients[name] for name in names]
    tolerance = target.contract.tolerance
    assert len(found) == len(baseline) == len(expected)
    for place, (mine, theirs, right) in enumerate(zip(found, baseline, expected, strict=True)):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape and torch.isfinite(mine).all()
        floor = tolerance.floor.get(str(mine.dtype).removeprefix("torch."), 0.0)
        allowed = max(tolerance.factor * error(theirs, right), floor)
        assert error(mine, right) <= allowed, f"result {place}: {error(mine, right):.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize(("target", "kernel", "number"), [case for case in CASES if case.values[2] == 0])
def test_compiled_it_gives_the_same(target, kernel, number):
    torch.compiler.reset()
    case = workload(target.name, number)
    arguments = values(target, case, seed=3)
    plain, compiled = function_of(kernel), torch.compile(function_of(kernel), dynamic=False)
    shapes = [output.shape for output in outputs_of(plain(*on_gpu(case, arguments).values()))]
    cotangents = [torch.ones(shape, dtype=torch.float64) for shape in shapes]
    expected = both_ways(plain, case, arguments, cotangents)
    for mine, theirs in zip(both_ways(compiled, case, arguments, cotangents), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02 * float(theirs.detach().abs().max()))
