"""The form of kernels' results in PyTorch, eager and compiled, and whether what is to be updated in place is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda.kernel_files import INSTALLED, Ops, runs_when_traced
from autoresearch_trainer import forms as shared
from autoresearch_trainer.forms import Form, listed
from autoresearch_trainer.kernel_files import Kernel

# An update that is zero changes nothing, so later calls are looked at until one does; some arguments never are.
MOST_UPDATES = 8


class Forms(shared.Forms):
    """See the shared one. With torch.compile the look is at what is traced, and leaves nothing in the graph."""

    def __init__(self, selection: Mapping[str, Any], device: str) -> None:
        super().__init__(selection, INSTALLED, "torch", device)

    @cached_property
    def _baseline(self) -> Ops:
        return Ops.baseline()

    def _watched(self, target: str, function: Kernel) -> Callable[..., Any]:
        updates = self.contracts[target].updated
        seen: set[Any] = set()
        tries: Counter[Any] = Counter()

        @runs_when_traced
        def traced(arguments: tuple[Any, ...], returned: tuple[Form, ...]) -> bool:
            self.compare(target, returned, self._wanted(target, arguments))
            return True

        def watched(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                args = self.positional(target, args, kwargs)
            if torch.compiler.is_dynamo_compiling():
                returned = function(*args)
                traced(tuple([_form(value) for value in args]), tuple([_form(value) for value in listed(returned)]))
                return returned
            # Numbers of an optimizer's kernel change from step to step; those of others may be sizes.
            signature = [(v.shape, v.dtype) if isinstance(v, Tensor) else None if updates else v for v in args]
            key = (torch.is_grad_enabled(), *signature)
            if key in seen:
                return function(*args)
            tries[key] += 1
            proven = self._updated(target, function, args) if updates else None
            returned = function(*args) if proven is None else proven[0]
            arguments = tuple(_form(value) if isinstance(value, Tensor) else value for value in args)
            self.compare(target, [_form(value) for value in listed(returned)], self._wanted(target, arguments))
            if proven is None or proven[1] or tries[key] == MOST_UPDATES:
                seen.add(key)
            return returned

        return watched

    def _wanted(self, target: str, arguments: tuple[Any, ...]) -> list[Form]:
        """What the baseline returns for arguments of these forms: on no device, so that nothing is computed."""
        given = [
            torch.empty(value[0], dtype=value[1], device="meta") if _is_form(value) else value for value in arguments
        ]
        with torch.no_grad():
            return [_form(value) for value in listed(getattr(self._baseline, target)(*given))]

    def _updated(self, target: str, function: Kernel, args: tuple[Any, ...]) -> tuple[Any, bool]:
        """(what the kernel returns, whether the baseline changes every argument that is updated in place, so that this
        call was a proof). Raises KernelFailed where the kernel leaves one alone that the baseline changes."""
        names = self.contracts[target].arguments
        updated = [place for place, name in enumerate(names[: len(args)]) if name in self.contracts[target].updated]
        before = {place: args[place].clone() for place in updated}
        theirs = [value.clone() if isinstance(value, Tensor) else value for value in args]
        with torch.no_grad():
            getattr(self._baseline, target)(*theirs)
        returned = function(*args)
        changed = [place for place in updated if not torch.equal(before[place], theirs[place])]
        for place in changed:
            if torch.equal(before[place], args[place]):
                self.fail(target, f"left {names[place]} as it was, which it has to update in place")
        return returned, len(changed) == len(updated)


def _form(value: Any) -> Any:
    """(shape, dtype) of a tensor; anything else as it is."""
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value


def _is_form(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], torch.dtype)
