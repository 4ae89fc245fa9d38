"""What a training run asks of an engine that checks kernels in place."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.record import CheckedKernel, CheckedKernels


class Checks(Protocol):
    """Kernels checked in one training run. It is made before any of them is loaded."""

    def wrap(self, target: str, kernel: Kernel) -> Kernel:
        """For `Ops.load`: the kernel with its calls sampled; one that is not checked as it is."""

    def begin(self, trainer: Any) -> None:
        """Before the first step."""

    def step(self) -> AbstractContextManager[None]:
        """Around each step. Raises KernelWrong at its end."""

    def end(self) -> None:
        """After the last step, and again after the evaluation. Raises KernelWrong."""

    def record(self) -> CheckedKernels:
        """What was checked so far."""


def checked_lines(checked: CheckedKernels) -> list[str]:
    """For people: a line for each kernel."""
    return [f"{target}={one['name']} {checked_words(one)}" for target, one in checked["targets"].items()]


def checked_words(one: CheckedKernel) -> str:
    """How much was compared, and what follows from it."""
    if one["bound"] is None:
        return f"none of {one['calls']:,} calls checked: give a larger share"
    found = f"{one['checked']:,} of {one['calls']:,} calls checked, {one['elements']:,} elements"
    return f"{found}; at most {one['bound']:.2%} of calls wrong (95 %)"
