"""This engine's `Ops`, and how the calls of its kernels are counted."""

from typing import Any

import torch

from autoresearch_cuda.seam import SEAM, TARGETS, Kernel
from autoresearch_trainer import ops as shared
from autoresearch_trainer.ops import Selection, Wrap

__all__ = ["CallCounter", "Ops", "Selection", "Wrap"]


class Ops(shared.Ops):
    """The PyTorch kernels of one run."""

    seam = SEAM


class CallCounter:
    """A `wrap` for Ops.load that counts the calls of each target.

    Eager calls cost one integer addition. Inside torch.compile the addition must not enter the graph, so there a call
    is counted once, while it is traced; `traced` says how many of the calls are of that kind.
    """

    def __init__(self) -> None:
        self.eager: dict[str, int] = dict.fromkeys(TARGETS, 0)
        self.traced: dict[str, int] = dict.fromkeys(TARGETS, 0)

    def totals(self) -> dict[str, int]:
        """Calls of both kinds by target; 0 for a target that nothing called."""
        return {target: self.eager[target] + self.traced[target] for target in TARGETS}

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
