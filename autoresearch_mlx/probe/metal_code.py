"""Metal kernels that a kernel file makes: seen when they are made, and stand-ins for them that do nothing.

If results stay right while the Metal kernels do nothing, they come from somewhere else: the kernels are there for show.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx


class MetalCode:
    """Watches mx.fast.metal_kernel. `made`: names of the kernels so far; `calls`: of stand-ins."""

    def __init__(self, idle: bool) -> None:
        self.idle = idle
        self.made: list[str] = []
        self.calls = 0
        self._original: Callable[..., Any] = mx.fast.metal_kernel

    def install(self, make: Callable[..., Any] | None = None) -> None:
        """From now on; has to happen before the kernel is loaded. `make` makes the kernels in MLX's place."""
        make = make or self._original

        def metal_kernel(name: str, *args: Any, **kwargs: Any) -> Callable[..., list[mx.array]]:
            self.made.append(name)
            kernel: Callable[..., list[mx.array]] = self._nothing if self.idle else make(name, *args, **kwargs)
            return kernel

        mx.fast.metal_kernel = metal_kernel

    def remove(self) -> None:
        mx.fast.metal_kernel = self._original

    def _nothing(self, *, output_shapes: Any, output_dtypes: Any, **ignored: Any) -> list[mx.array]:
        self.calls += 1
        return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]
