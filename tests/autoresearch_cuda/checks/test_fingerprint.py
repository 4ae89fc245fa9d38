"""What kernels must leave alone is looked at, and every change of it is named."""

import sys
from types import ModuleType

import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.checks.fingerprint import Fingerprints, ProcessGuard
from autoresearch_cuda.kernel_files import Ops
from autoresearch_trainer import optim


@pytest.fixture
def prints(config, dataset):
    return Fingerprints(engine.Trainer(config, Ops.baseline(), dataset), ProcessGuard())


def test_an_honest_step_changes_nothing(prints):
    trainer = prints._trainer
    trainer.before_update = prints.around_backward()
    end = prints.around_step()
    trainer.step()
    end()
    prints.look_at_settings()
    prints.end_run()
    own = [text for text in prints.found if "PYTEST_CURRENT_TEST" not in text]
    assert own == [] and prints.looks == 3


@pytest.mark.parametrize("name", ["parameter lm_head.weight", "buffer cos", "optimizer state wte.0.v"])
def test_one_number_is_seen(prints, name):
    end = prints.around_backward()
    with torch.no_grad():
        tensor = prints._named()[name]
        tensor.view(-1)[3] = torch.nextafter(tensor.view(-1)[3], torch.tensor(9.0, dtype=tensor.dtype))
    end()
    assert prints.found == [f"{name} was changed by the forward and backward passes"]


def test_a_call_of_the_optimizer_may_change_its_own_arguments(prints):
    group = prints._trainer.optimizer.adamw[0]
    end = prints.around_update((group.params[0], group.exp_avg[0], 1, 0.1))
    with torch.no_grad():
        group.params[0] += 1
        group.exp_avg[0] += 1
    end()
    assert prints.found == []
    end = prints.around_update((group.params[0], group.exp_avg[0], 1, 0.1))
    with torch.no_grad():
        prints._trainer.model.resid_lambdas += 1
    end()
    assert prints.found == ["parameter resid_lambdas was changed by a call of the optimizer's kernel"]


def test_random_numbers_of_a_step_are_seen_and_those_between_steps_are_nobodys_business(prints):
    end = prints.around_step()
    torch.rand(1)
    end()
    assert prints.found == ["random state was changed by the step"]
    prints.end_run()
    assert not any("during the run random" in text for text in prints.found)


def test_settings_are_compared(prints):
    prints._trainer.optimizer.muon[0].lr *= 2
    prints._trainer.optimizer.weight_decay = 0.0
    prints.look_at_settings()
    assert [text.partition(" was")[0] for text in prints.found] == ["learning rate of muon_32x32", "weight decay"]


def test_code_of_the_trainer_and_of_torch_is_compared(prints, monkeypatch):
    monkeypatch.setattr(optim.muon_momentum, "__code__", (lambda step: 0.5).__code__)
    monkeypatch.setattr(torch.nn.functional, "relu", torch.nn.functional.silu)
    prints.end_run()
    assert any("the code of autoresearch_trainer.optim.muon_momentum was replaced" in text for text in prints.found)


def test_what_is_no_module_is_no_matter(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.not_there", None)
    assert isinstance(torch, ModuleType) and ProcessGuard()
