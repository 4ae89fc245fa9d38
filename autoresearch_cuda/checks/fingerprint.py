"""What kernels must leave alone in a trainer: parameters, optimizer state, batch, schedules, code, and the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from autoresearch_cuda.probe.guard import Guard
from autoresearch_trainer.in_place import FingerprintsBase, loaded_code
from autoresearch_trainer.probe.state import State

_PACKAGES = ("torch", "autoresearch_")
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ProcessGuard(Guard):
    """The process around a training: as in `verify`, and the code of every function of torch and of the trainer that is
    loaded when this is made. A training sets itself how malloc and the garbage collector behave, and malloc adapts to
    what it takes."""

    watches_memory = False

    def __init__(self) -> None:
        self.watched = tuple(dict.fromkeys((*type(self).watched, *loaded_code(_PACKAGES))))
        super().__init__()


class Fingerprints(FingerprintsBase):
    """See FingerprintsBase; what a step must leave alone besides: parameters, the optimizer's state, and the batch."""

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
        return {
            **super()._read_settings(),
            "step counter": self._trainer.optimizer.steps_done - self._trainer.steps_done,
        }


def _digest(tensor: Tensor) -> int:
    """Sum of the bits, read as integers: differs where any element was changed, up to a change that another undoes."""
    flat = tensor.detach().contiguous().view(-1) if tensor.ndim else tensor.detach().reshape(1)
    return int(flat.view(_INTEGERS[tensor.element_size()]).sum(dtype=torch.int64))
