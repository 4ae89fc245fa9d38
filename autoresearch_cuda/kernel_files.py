"""What stands between this engine and `kernels/<target>/`: its baseline, its `Ops`, and how calls are counted.

Kernel files that are composed of others use `part`.
"""

from collections.abc import Iterable
from typing import Any

import torch

from autoresearch_cuda import native
from autoresearch_trainer import ops as shared
from autoresearch_trainer.kernel_files import TARGETS, InstalledKernels, Kernel, KernelFile

BASELINE = "torch_eager"

INSTALLED = InstalledKernels(TARGETS, BASELINE)
installed_kernel, part = INSTALLED.installed_kernel, INSTALLED.part


class Ops(shared.Ops):
    """The PyTorch kernels of one run."""

    installed = INSTALLED

    @staticmethod
    def prepare(kernels: Iterable[KernelFile]) -> None:
        native.build_together(kernels)


class CallCounter(shared.CallCounter):
    """Eager calls cost one integer addition; inside torch.compile that must not enter the graph."""

    def __call__(self, target: str, function: Kernel) -> Kernel:
        eager = self.eager

        @torch.compiler.assume_constant_result
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
