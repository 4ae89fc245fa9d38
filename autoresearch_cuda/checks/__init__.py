"""Kernels checked in place: sampled calls of a training are computed by the baseline as well, and compared."""

from collections.abc import Collection, Mapping

from autoresearch_trainer.checks import Checks
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.sampling import Sampler


def checks(
    selection: Mapping[str, KernelFile], sampler: Sampler, device: str, only: Collection[str] | None = None
) -> Checks:
    """The checks of a training with these kernels; see `run.InPlaceChecks`. Imported late: most runs have none."""
    from autoresearch_cuda.checks.run import InPlaceChecks

    return InPlaceChecks(selection, sampler, device, only)
