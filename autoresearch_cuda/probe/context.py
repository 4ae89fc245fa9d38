"""The contexts in which a trainer, or code around it, may call a kernel: modes of autograd, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from autoresearch_cuda.probe.tensors import rolled
from autoresearch_trainer.jobs.calls import Mode
from autoresearch_trainer.kernel_files import Kernel

_grad = torch.autograd.grad
_get_threads, _set_threads = torch.get_num_threads, torch.set_num_threads
# Calls between a call's forward and its backward, with other contents: more than a ring of buffers usually has.
BETWEEN = 4
_MODES: dict[Mode, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def import_compiler() -> None:
    """Before anything of the process is looked at: importing torch.compile's machinery changes some of it."""
    import torch._dynamo  # noqa: F401


def caller_of(function: Kernel) -> Kernel:
    """A function that calls `function`, to be compiled in its place, as a trainer is: of what it is given itself
    torch.compile takes a `torch.compiler.disable` off, and what it calls breaks the graph there alone."""

    def call(*values: Any) -> Any:
        return function(*values)

    return call


def compiled(function: Kernel) -> Kernel:
    """`function` as torch.compile hands it on, without a compiler: traced, with fakes and functional, not fused."""
    run: Kernel = torch.compile(caller_of(function), backend="aot_eager", dynamic=False)
    return run


def is_of_compiler(raised: BaseException) -> bool:
    """Whether torch.compile raised this: it does not take the function."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(raised, TorchDynamoException)


def entered(mode: Mode) -> AbstractContextManager[Any]:
    """Autograd's mode in which a call in this context is made."""
    return _MODES.get(mode, torch.enable_grad)()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """With so many threads instead of those that there are; 0 for these."""
    before = _get_threads()
    if count:
        _set_threads(count)
    try:
        yield
    finally:
        if count and _get_threads() == count:  # else somebody set another number, which is to be seen
            _set_threads(before)


class Call:
    """One call of `function` with `values` ({argument: value}, in order) in a mode."""

    def __init__(self, function: Kernel, values: Mapping[str, Any], mode: Mode) -> None:
        self._function, self._values, self._mode = function, list(values.values()), mode
        self._others: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []

    def forward(self) -> Any:
        """What the kernel returns. Interleaved: other calls have followed, whose backward is still to come."""
        with entered(self._mode):
            if self._mode == "checkpointed":
                from torch.utils.checkpoint import checkpoint

                return checkpoint(self._function, *self._values, use_reentrant=False)
            values = [_behind(value) for value in self._values] if self._mode == "not a leaf" else self._values
            returned = self._function(*values)
            if self._mode == "interleaved":
                self._others = [_another(self._function, self._values, number + 1) for number in range(BETWEEN)]
                self._run_back(self._others[-1:])
        return returned

    def backward(self) -> None:
        """The other calls' backward, after this one's."""
        self._run_back(self._others[:-1])

    @staticmethod
    def _run_back(calls: list[tuple[list[torch.Tensor], list[torch.Tensor]]]) -> None:
        for leaves, outputs in calls:
            if outputs:
                _grad(outputs, leaves, [torch.ones_like(each) for each in outputs], allow_unused=True)


def _behind(value: Any) -> Any:
    """The same memory, seen through an operator."""
    return value.view_as(value) if isinstance(value, torch.Tensor) and value.requires_grad else value


def _another(function: Kernel, values: list[Any], number: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(leaves, differentiable outputs) of a call with other contents in new memory."""
    copies = [
        rolled(value.detach().clone(), number).requires_grad_(value.requires_grad)
        if isinstance(value, torch.Tensor)
        else value
        for value in values
    ]
    leaves = [each for each in copies if isinstance(each, torch.Tensor) and each.requires_grad]
    return leaves, [each for each in tensors_of(function(*copies)) if each.requires_grad]


def tensors_of(returned: Any) -> list[torch.Tensor]:
    """The tensors among what a kernel returned."""
    found = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    return [each for each in found if isinstance(each, torch.Tensor)]
