"""The library arms against the baselines: same outputs and gradients within the dtype, same shapes and dtypes.

Compiled arms run uncompiled here (torch's own switch), but for one that goes through the compiler.
"""

import shutil

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops, installed_kernel
from autoresearch_trainer.kernel_files import TARGETS

BF16 = torch.bfloat16


def _grad(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def arguments(target: str) -> tuple:
    """One small call; tensors that need gradients are marked."""
    torch.manual_seed(0)
    match target:
        case "rms_norm":
            return _grad(2, 8, 16), 1.1920929e-07
        case "rope":
            return _grad(2, 8, 2, 16), torch.randn(1, 8, 1, 8).to(BF16), torch.randn(1, 8, 1, 8).to(BF16)
        case "attention_mask":
            return 9, 4, torch.empty(0)
        case "windowed_attention":
            return _grad(2, 8, 2, 16), _grad(2, 8, 2, 16), _grad(2, 8, 2, 16), 3
        case "newton_schulz":
            return torch.randn(3, 16, 32), 5
        case "softcap_cross_entropy":
            return _grad(12, 32), torch.tensor([*range(10), -1, -1]), 15.0, "mean"
        case "relu_squared":
            return (_grad(5, 7),)
        case "value_gate":
            return _grad(2, 8, 2, 16), _grad(2, 8, 2, 16), _grad(2, 8, 2)
        case "residual_mix":
            lambdas = (torch.tensor(0.9, requires_grad=True), torch.tensor(0.2, requires_grad=True))
            return _grad(2, 3, 4), _grad(2, 3, 4), *lambdas
        case "adamw_update":
            state = torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 6), torch.rand(5, 6)
            return *state, 3, 0.1, 0.8, 0.95, 1e-10, 0.1
        case "muon_update":
            state = torch.randn(3, 32, 16), torch.randn(3, 32, 16), torch.randn(3, 32, 16), torch.rand(3, 32, 1)
            return *state, 0.9, 0.02, 0.1, 0.95, 5
        case "qk_prelude":
            angles = torch.randn(1, 8, 1, 8).to(BF16), torch.randn(1, 8, 1, 8).to(BF16)
            return _grad(2, 8, 4, 16), _grad(2, 8, 2, 16), *angles, 1.1920929e-07
        case "residual_norm":
            lambdas = (torch.tensor(0.9, requires_grad=True), torch.tensor(0.2, requires_grad=True))
            return _grad(2, 3, 4), _grad(2, 3, 4), *lambdas, 1.1920929e-07
        case "mlp":
            return _grad(2, 3, 16), _grad(64, 16, dtype=torch.float32), _grad(16, 64, dtype=torch.float32)
        case "loss_head":
            targets = torch.tensor([*range(10), -1, -1])
            return _grad(12, 16), _grad(32, 16, dtype=torch.float32), targets, 15.0, "mean"
    raise AssertionError(target)


def outcome(function, args: tuple) -> list[torch.Tensor]:
    """Outputs, and the gradients for one fixed cotangent."""
    copies = [a.detach().clone().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a for a in args]
    found = function(*copies)
    outputs = list(found) if isinstance(found, tuple) else [found]
    if outputs[0].requires_grad:
        torch.autograd.backward(outputs, [torch.full_like(output, 0.5) for output in outputs])
        outputs += [a.grad for a in copies if isinstance(a, torch.Tensor) and a.requires_grad]
    return outputs


def assert_same(target: str, found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    # The polar factor amplifies bfloat16 roundings; a step of Muon moves the weights by a fraction of that.
    tolerance = {"newton_schulz": 0.08, "muon_update": 0.01}.get(target, 0.01)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        assert (mine.double() - theirs.double()).norm() <= tolerance * theirs.double().norm()


@pytest.mark.parametrize("target", TARGETS)
def test_the_library_arm_agrees_with_the_baseline(target: str):
    library = Ops.load({target: installed_kernel(target, "torch_library")})
    with torch.compiler.set_stance("force_eager"):
        found = outcome(getattr(library, target), arguments(target))
    assert_same(target, found, outcome(getattr(Ops.baseline(), target), arguments(target)))


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="Inductor needs a C++ compiler")
def test_a_compiled_arm_goes_through_the_compiler():
    library = Ops.load({"relu_squared": installed_kernel("relu_squared", "torch_library")})
    args = arguments("relu_squared")
    assert_same("relu_squared", outcome(library.relu_squared, args), outcome(Ops.baseline().relu_squared, args))
