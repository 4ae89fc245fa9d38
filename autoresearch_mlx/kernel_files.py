"""What stands between this engine and `kernels/<target>/`: its baseline, its `Ops`, and how calls are counted.

Kernel files that are composed of others use `part`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autoresearch_trainer import ops as shared
from autoresearch_trainer.kernel_files import TARGETS, InstalledKernels, Kernel

BASELINE = "mlx_eager"

INSTALLED = InstalledKernels(TARGETS, BASELINE)
installed_kernel, part = INSTALLED.installed_kernel, INSTALLED.part
_tracing = 0


class Ops(shared.Ops):
    """The MLX kernels of one run."""

    installed = INSTALLED


@contextmanager
def _trace() -> Iterator[None]:
    global _tracing
    _tracing += 1
    try:
        yield
    finally:
        _tracing -= 1


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for mx.compile: its Python code runs only while it is traced, and says so meanwhile."""

    def body(*args: Any) -> Any:
        with _trace():
            return function(*args)

    return body


def is_traced() -> bool:
    """Whether a function is being traced for mx.compile now."""
    return _tracing > 0


class CallCounter(shared.CallCounter):
    """Knows from `traced` whether a call is one that is being traced."""

    def __call__(self, target: str, function: Kernel) -> Kernel:
        def counted(*args: Any, **kwargs: Any) -> Any:
            (self.traced if is_traced() else self.eager)[target] += 1
            return function(*args, **kwargs)

        return counted
