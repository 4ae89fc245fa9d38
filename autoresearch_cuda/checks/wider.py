"""The baseline with less rounding: the same operations, none of them in a narrower type than was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from autoresearch_trainer.kernel_files import Kernel

_CASTS: dict[Callable[..., Any], torch.dtype] = {
    Tensor.float: torch.float32,
    Tensor.bfloat16: torch.bfloat16,
    Tensor.half: torch.float16,
}


class Wider(TorchFunctionMode):
    """Within this context casts to a floating type narrower than `dtype` go to `dtype`, so that a kernel written in
    PyTorch operations computes in it from arguments in it to the end."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _CASTS:
            return args[0].to(self._widened(_CASTS[func]))
        return func(*map(self._widened, args), **{name: self._widened(value) for name, value in (kwargs or {}).items()})

    def _widened(self, value: Any) -> Any:
        narrow = isinstance(value, torch.dtype) and value.is_floating_point and value.itemsize < self._dtype.itemsize
        return self._dtype if narrow else value


def wide_dtype(tensors: list[Tensor]) -> torch.dtype:
    """The type in which a call's truth is computed: float32 where an argument has a half-precision type, else float64,
    so that it is wider than what rounds most."""
    half = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in tensors)
    return torch.float32 if half else torch.float64


def widened(kernel: Kernel) -> Kernel:
    """A kernel in PyTorch operations computed in `wide_dtype`, with results in the dtypes that it gives otherwise.

    What it updates in place it updates in wider copies, whose values are rounded once into the arguments.
    """

    def wide(*arguments: Any) -> Any:
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        if not any(tensor.is_floating_point() for tensor in tensors):
            return kernel(*arguments)
        dtype = wide_dtype(tensors)
        usual = kernel(*[value.detach().clone() if isinstance(value, Tensor) else value for value in arguments])
        copies = [_wider(value, dtype) for value in arguments]
        with Wider(dtype):
            found = kernel(*copies)
        results, forms = (found, usual) if isinstance(found, tuple) else ((found,), (usual,))
        results = tuple(_stored(result, form, copies, arguments) for result, form in zip(results, forms, strict=True))
        return results if isinstance(found, tuple) else results[0]

    return wide


def _wider(value: Any, dtype: torch.dtype) -> Any:
    """A copy, so that nothing that a kernel updates in place is an argument itself."""
    return value.to(dtype, copy=True) if isinstance(value, Tensor) and value.is_floating_point() else value


def _stored(result: Tensor, form: Tensor, copies: list[Any], arguments: tuple[Any, ...]) -> Tensor:
    """A result in the dtype of `form`; one that is an argument updated in place in that argument."""
    for copy, argument in zip(copies, arguments, strict=True):
        if result is copy:
            return argument.copy_(result)
    return result.to(form.dtype)
