"""What stands between this engine and `kernels/<target>/`: its baseline, its `Ops`, and how calls are counted.

Kernel files that are composed of others use `part`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda import native
from autoresearch_trainer import ops as shared
from autoresearch_trainer.kernel_files import TARGETS, InstalledKernels, Kernel, KernelFile
from autoresearch_trainer.process import usable_cores

BASELINE = "torch_eager"

INSTALLED = InstalledKernels(TARGETS, BASELINE)
installed_kernel, part = INSTALLED.installed_kernel, INSTALLED.part


class Ops(shared.Ops):
    """The PyTorch kernels of one run."""

    installed = INSTALLED

    @staticmethod
    def prepare(kernels: Iterable[KernelFile]) -> None:
        """Build the C++ sources beside these kernels side by side, since the compiler uses one core for each. What
        fails here fails again, with its message, where the kernel is loaded."""
        sources = [path for kernel in kernels if (path := Path(kernel.path).with_suffix(".cpp")).is_file()]
        if len(sources) < 2:
            return
        with ThreadPoolExecutor(usable_cores()) as pool:
            for built in [pool.submit(native.build, source) for source in sources]:
                with suppress(Exception):
                    built.result()


def runs_when_traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.assume_constant_result`, by the mark that it makes: torch.compile calls the function while it
    traces, and its result is a constant of the graph. That function imports the compiler in order to make the mark,
    which would cost every uncompiled process 1.5 s."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class CallCounter(shared.CallCounter):
    """Eager calls cost one integer addition; inside torch.compile that must not enter the graph."""

    def __call__(self, target: str, function: Kernel) -> Kernel:
        eager = self.eager

        @runs_when_traced
        def count_trace() -> bool:
            self.traced[target] += 1
            return True

        def counted(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_dynamo_compiling():
                count_trace()
            else:
                eager[target] += 1
            return function(*args, **kwargs)

        return counted
