"""What the C++ loss head does beyond what every kernel is tested for: caps of all sizes, ways to ask."""

import numpy as np
import pytest
import torch
from kernel_cases import arguments, error, kernel, oracle, run, wide, workload

from autoresearch_common.workload import variant

TARGET = "loss_head"


@pytest.fixture
def loss():
    return kernel(TARGET, "cpp_fused")


@pytest.mark.parametrize("cap", [0.5, 3.5, 15.0, 39.0, 41.0, 1e3, 1e6])
def test_caps_of_all_sizes(loss, cap):
    """Those beyond 40 take the way by the row's largest logit; a huge one is no cap at all."""
    case = variant(workload(TARGET), softcap=cap, reduction="none")
    values = oracle(TARGET).inputs(case, np.random.default_rng(1), "typical")
    values["x"] *= 10  # logits of about 10
    args = arguments(case, values)
    exact = {name: wide(value) for name, value in args.items()}
    g = np.random.default_rng(2).standard_normal(40).astype(np.float32).astype(np.float64)
    (found,), gradients = run(loss, args, (g,))
    assert error(found, oracle(TARGET).forward(exact)[0]) <= 1e-5
    for name, right in oracle(TARGET).backward(exact, (g,)).items():
        assert error(gradients[name], right) <= 1e-4, name


def test_one_gradient_whatever_way_it_is_asked(loss):
    """Kept from the forward pass and scaled, recomputed for "none", accumulated; the loss without gradients."""
    torch.manual_seed(0)
    x, w = torch.randn(40, 32).bfloat16().requires_grad_(), (torch.randn(300, 32) / 6).requires_grad_()
    targets = torch.randint(300, (40,))
    value = loss(x, w, targets, 15.0, "mean")
    kept = torch.autograd.grad(value, (x, w), torch.tensor(40.0), retain_graph=True)
    separate = loss(x, w, targets, 15.0, "none")
    again = torch.autograd.grad(separate, (x, w), torch.ones(40))
    for one, other in zip(kept, again, strict=True):
        assert error(wide(one), wide(other)) <= 2**-7
    torch.testing.assert_close(separate.mean(), value)
    value.backward(retain_graph=True)
    once = w.grad.clone()
    value.backward()
    assert torch.equal(w.grad, 2 * once)
    with torch.no_grad():
        assert torch.equal(loss(x, w, targets, 15.0, "mean"), value.detach())


def test_gradients_are_kept_narrow_only_where_they_are_not_rounded_again(loss):
    x, w = torch.randn(4, 8).bfloat16().requires_grad_(), torch.randn(30, 8).requires_grad_()
    value = loss(x, w, torch.tensor([1, 2, 3, 4]), 15.0, "mean")
    assert [kept.dtype for kept in value.grad_fn.saved_tensors] == [torch.float32, torch.bfloat16]
    narrow = loss(x, w.detach().bfloat16().requires_grad_(), torch.tensor([1, 2, 3, 4]), 15.0, "mean")
    assert [kept.dtype for kept in narrow.grad_fn.saved_tensors] == [torch.float32] * 2
    assert [g.dtype for g in torch.autograd.grad(value, (x, w))] == [torch.bfloat16, torch.float32]


def test_a_cotangent_near_one_leaves_no_common_factor(loss):
    """dx rounded, times 1.0017 and rounded again would be dx itself: 0.17 % too small, in every element."""
    torch.manual_seed(0)
    x, w = torch.randn(257, 33).bfloat16().requires_grad_(), torch.randn(129, 33).mul(0.2).requires_grad_()
    targets = torch.randint(0, 129, (257,))
    (one,) = torch.autograd.grad(loss(x, w, targets, 15.0, "mean"), x)
    (near,) = torch.autograd.grad(loss(x, w, targets, 15.0, "mean"), x, torch.tensor(1.0017))
    assert (near.double() * one.double()).sum() / one.double().square().sum() == pytest.approx(1.0017, abs=3e-4)
