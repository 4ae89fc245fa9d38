"""One call against its contract; the measures against those of `verify`."""

import numpy as np
import pytest
import torch

from autoresearch_common import metrics
from autoresearch_cuda.checks.accuracy import errors, nonfinite_problem
from autoresearch_cuda.checks.judge import Call, Judge
from autoresearch_cuda.checks.wider import Wider, wide_dtype
from autoresearch_cuda.kernel_files import INSTALLED
from autoresearch_trainer import contract
from autoresearch_trainer.kernel_files import load_kernel


def judge(target):
    read = contract.read(target, "torch", "cpu")
    return Judge(read, [load_kernel(INSTALLED.installed_kernel(target)), *map(load_kernel, read.trusted)])


@pytest.mark.parametrize("shape", [(), (7,), (3, 5, 16), (40, 1)])
def test_the_measures_are_those_of_verify(shape):
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(shape, generator=generator, dtype=torch.float64)
    result = (truth * (1 + 0.01 * torch.randn(shape, generator=generator))).to(torch.bfloat16)
    ours = errors(result, truth)
    scale = metrics.scale_of(truth.numpy(), None, "bfloat16")
    theirs = metrics.errors(result.double().numpy(), truth.numpy(), scale)
    assert ours.plain() == pytest.approx(theirs.plain(), rel=1e-3)


def test_what_is_not_finite_has_to_agree():
    value = torch.tensor([1.0, np.inf, np.nan])
    assert nonfinite_problem(value, value.double()) is None
    assert "1 elements" in nonfinite_problem(torch.tensor([1.0, -np.inf, np.nan]), value.double())
    assert "1 elements" in nonfinite_problem(torch.tensor([1.0, np.inf, 0.0]), value.double())


def call(x, y, cotangent=None, gradient=None):
    made = Call("relu_squared", 1, 1, [x], (0,) if cotangent is not None else (), outputs=[y])
    if cotangent is not None:
        made.cotangents, made.gradients = {0: cotangent}, {0: gradient}
    return made


def test_a_call_is_right_up_to_what_its_contract_allows():
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    y, ones = torch.relu(x).square(), torch.ones_like(x)
    right = judge("relu_squared").examine(call(x, y, ones, 2 * torch.relu(x)))
    assert right.problem is None and 0 < right.excess <= 1.0 and right.elements == 2 * 64 * 32
    wrong = judge("relu_squared").examine(call(x, y * 1.02))
    assert "result y" in wrong.problem and "allowed" in wrong.problem and wrong.excess > 1.0
    wrong = judge("relu_squared").examine(call(x, y, ones, 1.95 * torch.relu(x)))
    assert "gradient of x" in wrong.problem
    wrong = judge("relu_squared").examine(call(x, y[:32]))
    assert "shape (32, 32), not (64, 32)" in wrong.problem


def test_a_mask_has_to_be_equal():
    like = torch.zeros(1)
    mask = load_kernel(INSTALLED.installed_kernel("attention_mask"))(8, 3, like)
    assert judge("attention_mask").examine(Call("attention_mask", 1, 1, [8, 3, like], outputs=[mask])).problem is None
    mask = mask.clone()
    mask[0, 0] = False
    found = judge("attention_mask").examine(Call("attention_mask", 1, 1, [8, 3, like], outputs=[mask]))
    assert "1 elements differ" in found.problem


def test_an_error_of_the_trusted_implementations_is_allowed():
    """The iteration in bfloat16 is far from the truth; as far a kernel may be, and no further."""
    g = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(2))
    exact = judge("newton_schulz")
    y = load_kernel(INSTALLED.installed_kernel("newton_schulz"))(g, 5)
    assert exact.examine(Call("newton_schulz", 1, 1, [g, 5], outputs=[y])).problem is None
    fewer = load_kernel(INSTALLED.installed_kernel("newton_schulz"))(g, 4)
    assert exact.examine(Call("newton_schulz", 1, 1, [g, 5], outputs=[fewer])).problem is not None


def test_within_the_wider_context_nothing_is_rounded_to_a_narrower_type():
    x = torch.full((4,), 1 + 2.0**-40, dtype=torch.float64)
    with Wider(torch.float64):
        kept = (x.float(), x.bfloat16(), x.to(torch.float32), x.to(dtype=torch.bfloat16))
    assert all(one.dtype == torch.float64 and torch.equal(one, x) for one in kept)
    assert x.float().dtype == torch.float32
    assert wide_dtype([x, x.half()]) == torch.float32 and wide_dtype([x.float()]) == torch.float64
