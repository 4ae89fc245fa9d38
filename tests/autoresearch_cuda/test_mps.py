"""What MPS asks of the trainer, shown on a CPU: no float64, and attention as on a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoresearch_cuda import plan, process
from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer


class NoFloat64(TorchDispatchMode):
    """Notes operators that make float64."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in tree_leaves(made)):
            self.found.add(str(function))
        return made


def test_a_step_makes_no_float64_with_the_attention_of_other_devices(config, dataset):
    def attention(target, function):
        return function.__globals__["_fused"] if target == "windowed_attention" else function

    trainers = [Trainer(config, Ops.load(wrap=wrap), dataset) for wrap in (None, attention)]
    with NoFloat64() as watched:
        losses = [[trainer.step().loss for _ in range(2)] for trainer in trainers]
    assert not watched.found and losses[1] == pytest.approx(losses[0], rel=2e-3)


def test_the_evaluation_leaves_the_device_before_it_adds_up_in_float64(config, dataset, monkeypatch):
    trainer = Trainer(config, Ops.baseline(), dataset)
    inputs = trainer.batch[0].numpy()
    order = []
    for name in ("cpu", "double"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda x, n=name, f=plain: (order.append(n), f(x))[1])
    BatchLosses(trainer.model, len(inputs))(inputs, inputs)
    assert order == ["cpu", "double"]


def test_memory_is_what_metal_says_within_what_the_system_has(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2 << 30)
    monkeypatch.setattr(plan, "system_bytes", lambda: 16 << 30)
    assert plan.available_bytes("mps") == 10 << 30 and process.own_bytes("mps") == 2 << 30
    assert process.peak_memory_mb("mps") == 2048
    monkeypatch.setattr(plan, "system_bytes", lambda: 1 << 30)
    assert plan.available_bytes("mps") == 1 << 30
