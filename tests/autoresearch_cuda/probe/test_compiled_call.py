"""A kernel within a graph of its own: one graph where that can be, else the reason why not."""

from functools import partial

import pytest
import torch

from autoresearch_cuda.probe.compiled_call import CompiledCall
from autoresearch_trainer.errors import KernelError


@pytest.fixture(autouse=True)
def without_inductor(monkeypatch):
    """Dynamo alone, which finds the breaks; and its settings as they were afterwards."""
    import torch._dynamo.config
    import torch._inductor.config

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with torch._dynamo.config.patch(), torch._inductor.config.patch():
        yield
    torch._dynamo.reset()


def whole(x):
    return torch.relu(x).square()


def prints(x):
    print(end="")
    return torch.relu(x).square()


@torch.compiler.disable
def refuses(x):
    return torch.relu(x).square()


def fails(x):
    raise KernelError("two dimensions are needed")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (whole, None),
        (prints, "Failed to trace builtin operator: Dynamo does not know how to trace builtin operator `print`"),
        (refuses, "Skip calling `torch.compiler.disable()`d function: Skip calling function"),
    ],
)
def test_a_call_is_one_graph_or_says_why_not(function, reason):
    call, x = CompiledCall(function), torch.tensor([-1.0, 2.0], requires_grad=True)
    for _ in range(2):
        y = call(x)
        assert y.tolist() == [0.0, 4.0]
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 4.0]
    assert (call.graph_break or "").startswith(reason or "") and (call.graph_break is None) is (reason is None)
    assert "\n" not in (call.graph_break or "")


def test_what_a_kernel_raises_is_no_graph_break():
    with pytest.raises(Exception, match="two dimensions are needed"):
        CompiledCall(fails)(torch.ones(2))
