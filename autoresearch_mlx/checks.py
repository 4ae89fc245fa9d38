"""Kernels checked in place: not with MLX."""

from collections.abc import Collection, Mapping

from autoresearch_trainer.checks import Checks
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.sampling import Sampler


def checks(
    selection: Mapping[str, KernelFile], sampler: Sampler, device: str, only: Collection[str] | None = None
) -> Checks:
    """Raises ConfigError: a graph of MLX calls nothing back while it runs, so a call in it cannot be looked at."""
    raise ConfigError("with MLX kernels cannot be checked in place; kernel-lab verify holds them against the oracle")
