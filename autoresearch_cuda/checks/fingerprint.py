"""What kernels must leave alone in a trainer: parameters, optimizer state, batch, schedules, code, and the process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

import torch
from torch import Tensor

from autoresearch_cuda.probe.guard import Guard
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.kernel_files import KERNELS_ROOT
from autoresearch_trainer.probe.state import State, changes

_PACKAGES = ("torch", "autoresearch_")
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ProcessGuard(Guard):
    """The process around a training: as in `verify`, and the code of every function of torch and of the trainer that is
    loaded when this is made. A training sets itself how malloc and the garbage collector behave, and malloc adapts to
    what it takes."""

    watches_memory = False

    def __init__(self) -> None:
        modules = [module for name, module in sys.modules.items() if name.startswith(_PACKAGES) and module is not None]
        modules = [module for module in modules if isinstance(module, ModuleType)]
        classes = {
            value
            for module in modules
            if module.__name__.startswith("autoresearch_")
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
        }
        self.watched = tuple(dict.fromkeys((*type(self).watched, *modules, *classes)))
        super().__init__()


class Fingerprints:
    """Compares a trainer with itself at moments between which only certain things may change.

    guard: of the process, made before any kernel was loaded. found: what was changed, in words; empty as long as
    nothing was. looks: pairs of moments compared.
    """

    def __init__(self, trainer: Trainer, guard: ProcessGuard) -> None:
        self._trainer = trainer
        self._guard = guard
        self._settings = self._read_settings()
        self.found: list[str] = []
        self.looks = 0

    def around_backward(self) -> Callable[[], None]:
        """To be called before a step's forward pass; what it returns, after its backward pass: neither changes a
        parameter, the optimizer's state or the batch."""
        before = self._tensors()
        return lambda: self._compare(before, self._tensors(), "the forward and backward passes")

    def around_update(self, arguments: Iterable[object]) -> Callable[[], None]:
        """The same round one call of an optimizer's kernel, which may change its arguments and nothing else."""
        own = {value.data_ptr() for value in arguments if isinstance(value, Tensor)}
        names = [name for name, tensor in self._named().items() if tensor.data_ptr() not in own]
        before = self._tensors(names)
        return lambda: self._compare(before, self._tensors(names), "a call of the optimizer's kernel")

    def look_at_settings(self) -> None:
        """The configuration, the optimizer's settings, and its step counter against the trainer's."""
        self._compare(self._settings, self._read_settings(), "the step")

    def around_step(self) -> Callable[[], None]:
        """The same round a whole step: random states, the floating-point environment of all threads, torch's flags."""
        before = self._guard.state()
        return lambda: self._compare(before, self._guard.state(), "the step")

    def end_run(self) -> None:
        """The process and the code of torch and of the trainer, against the begin of the run. Between steps others may
        draw random numbers."""
        found = [text for text in self._guard.changes(KERNELS_ROOT) if not text.startswith("random state")]
        self.found += [f"during the run {text}" for text in found]

    def _compare(self, before: Mapping[str, object], after: Mapping[str, object], when: str) -> None:
        self.looks += 1
        self.found += [f"{text.partition(':')[0]} was changed by {when}" for text in changes(dict(before), dict(after))]

    def _named(self) -> dict[str, Tensor]:
        trainer = self._trainer
        found: dict[str, Tensor] = {f"parameter {name}": value for name, value in trainer.model.named_parameters()}
        found |= {f"buffer {name}": value for name, value in trainer.model.named_buffers()}
        return found | {f"optimizer state {name}": value for name, value in trainer.optimizer.state().items()}

    def _tensors(self, names: Iterable[str] | None = None) -> State:
        tensors = self._named()
        chosen = tensors if names is None else names
        return {name: _digest(tensors[name]) for name in chosen}

    def _read_settings(self) -> State:
        trainer, optimizer = self._trainer, self._trainer.optimizer
        found: State = {f"setting {name}": value for name, value in trainer.config.to_json().items()}
        found |= {f"settings of {group.settings.name}": group.settings for group in optimizer.adamw}
        found |= {f"learning rate of {stack.name}": stack.lr for stack in optimizer.muon}
        return found | {
            "weight decay": optimizer.weight_decay,
            "step counter": optimizer.steps_done - trainer.steps_done,
        }


def _digest(tensor: Tensor) -> int:
    """Sum of the bits, read as integers: differs where any element was changed, up to a change that another undoes."""
    flat = tensor.detach().contiguous().view(-1) if tensor.ndim else tensor.detach().reshape(1)
    return int(flat.view(_INTEGERS[tensor.element_size()]).sum(dtype=torch.int64))
