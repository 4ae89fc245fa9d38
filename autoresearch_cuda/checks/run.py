"""The checks of one training run: sampled calls, and what kernels must leave alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from autoresearch_cuda.checks.calls import CheckedCalls
from autoresearch_cuda.checks.fingerprint import Fingerprints, ProcessGuard
from autoresearch_cuda.checks.judge import Judge
from autoresearch_cuda.kernel_files import INSTALLED, Ops
from autoresearch_cuda.probe.context import import_compiler
from autoresearch_cuda.train import Trainer
from autoresearch_trainer import contract
from autoresearch_trainer.in_place import InPlaceChecksBase, nothing
from autoresearch_trainer.kernel_files import KernelFile, load_kernel
from autoresearch_trainer.sampling import Sampler


class InPlaceChecks(InPlaceChecksBase):
    """See InPlaceChecksBase."""

    def __init__(
        self,
        selection: Mapping[str, KernelFile],
        sampler: Sampler,
        device: str,
        only: Collection[str] | None = None,
    ) -> None:
        super().__init__(INSTALLED, selection, sampler, only)
        import_compiler()
        baseline = Ops.baseline() if self.kernels else None
        judges = {}
        for target in self.kernels:
            read = contract.read(target, "torch", device)
            judges[target] = Judge(read, [getattr(baseline, target), *map(load_kernel, read.trusted)])
        self.calls: CheckedCalls = CheckedCalls(sampler, judges)
        self.wrap = self.calls.wrap
        self._guard = ProcessGuard()

    def begin(self, trainer: Trainer) -> None:
        super().begin(trainer)
        self.prints: Fingerprints = Fingerprints(trainer, self._guard)
        self.calls.around_update = self.prints.around_update

    def look(self) -> Callable[[], None]:
        end_step = super().look()
        self.trainer.before_update = self.prints.around_backward()

        def end() -> None:
            self.trainer.before_update = nothing
            end_step()

        return end
