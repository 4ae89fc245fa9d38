"""The C++ kernels inside torch.compile: one graph, no breaks, the same numbers, forward and backward."""

import numpy as np
import pytest
import torch
from kernel_cases import NATIVE_KERNELS, arguments, as_tuple, contract, kernel, oracle, wide, workload

DIFFERENTIABLE = [
    (target, name) for target, name in NATIVE_KERNELS if any(arg.get("grad") for arg in contract(target)["args"])
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_kernel_is_one_graph_without_breaks(target, name):
    case = workload(target, "bfloat16")
    args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
    explained = torch._dynamo.explain(kernel(target, name))(*args.values())
    assert explained.graph_break_count == 0 and explained.graph_count == 1


@pytest.mark.parametrize(("target", "name"), DIFFERENTIABLE)
def test_compiled_values_and_gradients_are_the_eager_ones(target, name):
    case = workload(target, "bfloat16")
    values = oracle(target).inputs(case, np.random.default_rng(0), "typical")
    function = kernel(target, name)
    # Traces forward and backward as Inductor would, then runs the graphs as they are: seconds less.
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for call in (function, compiled):
        args = arguments(case, values)
        outputs = as_tuple(call(*args.values()))
        leaves = [arg for arg in args.values() if getattr(arg, "requires_grad", False)]
        gradients = torch.autograd.grad(outputs, leaves, [torch.full_like(y, 1.5) for y in outputs])
        results.append([*map(wide, outputs), *map(wide, gradients)])
    for eager, traced in zip(*results, strict=True):
        np.testing.assert_array_equal(eager, traced)


@pytest.mark.parametrize(("target", "name"), DIFFERENTIABLE)
def test_fake_outputs_have_the_form_of_the_real_ones(target, name):
    """Shapes, dtypes and strides that the compiler plans with, on an odd strided input too."""
    base = workload(target, "bfloat16")
    for case in [base, oracle(target).neighbours(base, np.random.default_rng(0))[-1]]:
        args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
        reals = as_tuple(kernel(target, name)(*args.values()))
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=False) as mode:
            fakes = [mode.from_tensor(arg) if torch.is_tensor(arg) else arg for arg in args.values()]
            results = as_tuple(kernel(target, name)(*fakes))
        for fake, real in zip(results, reals, strict=True):
            assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


def test_kernels_fuse_into_one_training_step():
    """All differentiable kernels in one function under Inductor, against the same function run eagerly."""
    rms_norm, rope, relu_squared, loss = (
        kernel(target, "cpp_fused") for target in ("rms_norm", "rope", "relu_squared", "softcap_cross_entropy")
    )
    angles = torch.rand(1, 8, 1, 4)
    cos, sin, targets = angles.cos(), angles.sin(), torch.randint(32, (16,))

    def step(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        x = rms_norm(rope(x, cos, sin), 1e-6)
        return loss(relu_squared(x.flatten(0, 1).flatten(1) @ weight) @ weight.T @ weight, targets, 15.0, "mean")

    gradients = []
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 4, 8), torch.randn(32, 32) * 0.1
    for call in (step, torch.compile(step, fullgraph=True)):
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        gradients.append(torch.autograd.grad(call(*leaves), leaves))
    for eager, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(eager, compiled, rtol=1e-5, atol=1e-7)
