"""The checks of one training run: sampled calls, and what kernels must leave alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from autoresearch_common.oracles import load_oracle
from autoresearch_mlx.checks.calls import CheckedCalls
from autoresearch_mlx.checks.judge import Judge
from autoresearch_mlx.kernel_files import INSTALLED, Ops
from autoresearch_mlx.probe.environment import Guard
from autoresearch_mlx.train import Trainer
from autoresearch_trainer import contract
from autoresearch_trainer.in_place import FingerprintsBase, InPlaceChecksBase, loaded_code
from autoresearch_trainer.kernel_files import KERNELS_ROOT, KernelFile
from autoresearch_trainer.sampling import Sampler


class ProcessGuard(Guard):
    """The process around a training: as in `verify`, and the code of every function of MLX and of the trainer that is
    loaded when this is made."""

    watches_memory = False

    def __init__(self) -> None:
        self.watched = tuple(dict.fromkeys((*type(self).watched, *loaded_code(("mlx", "autoresearch_")))))
        super().__init__()


class InPlaceChecks(InPlaceChecksBase):
    """See InPlaceChecksBase. Parameters and the optimizer's state need no look: arrays are values."""

    def __init__(
        self, selection: Mapping[str, KernelFile], sampler: Sampler, only: Collection[str] | None = None
    ) -> None:
        super().__init__(INSTALLED, selection, sampler, only)
        baseline = Ops.baseline() if self.kernels else None
        self.calls: CheckedCalls = CheckedCalls(
            sampler,
            {
                target: Judge(
                    contract.read(target, "mlx", "mlx"),
                    load_oracle(KERNELS_ROOT, target),
                    getattr(baseline, target),
                )
                for target in self.kernels
            },
        )
        self.wrap = self.calls.wrap
        self._guard = ProcessGuard()

    def begin(self, trainer: Trainer) -> None:
        super().begin(trainer)
        self.prints = FingerprintsBase(trainer, self._guard)
        trainer.prepare(self.calls.compiled)
