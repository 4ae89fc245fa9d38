"""This engine's `Ops`, and how the calls of its kernels are counted."""

from typing import Any

import torch

from autoresearch_cuda.kernel_files import INSTALLED
from autoresearch_trainer import ops as shared
from autoresearch_trainer.kernel_files import Kernel


class Ops(shared.Ops):
    """The PyTorch kernels of one run."""

    installed = INSTALLED


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
