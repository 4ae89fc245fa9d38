"""The form of kernels' results in MLX, whose arrays have it before anything is computed, traced or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import mlx.core as mx

from autoresearch_mlx.kernel_files import INSTALLED, Ops
from autoresearch_trainer import forms as shared
from autoresearch_trainer.forms import listed
from autoresearch_trainer.kernel_files import Kernel


class Forms(shared.Forms):
    """See the shared one. Here nothing is updated in place: a kernel returns what the contract has it update."""

    def __init__(self, selection: Mapping[str, Any], device: str) -> None:
        super().__init__(selection, INSTALLED, "mlx", device)

    @cached_property
    def _baseline(self) -> Ops:
        return Ops.baseline()

    def _watched(self, target: str, function: Kernel) -> Callable[..., Any]:
        updates = bool(self.contracts[target].updated)
        seen: set[Any] = set()

        def watched(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                args = self.positional(target, args, kwargs)
            returned = function(*args)
            key = tuple(_form(v) if isinstance(v, mx.array) else None if updates else v for v in args)
            if key not in seen:
                # Never evaluated, so never computed.
                wanted = listed(getattr(self._baseline, target)(*args))
                self.compare(target, [_form(v) for v in listed(returned)], [_form(v) for v in wanted])
                seen.add(key)
            return returned

        return watched


def _form(value: Any) -> Any:
    """(shape, dtype) of an array; anything else as it is."""
    return (tuple(value.shape), value.dtype) if isinstance(value, mx.array) else value
