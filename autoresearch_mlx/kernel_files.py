"""What stands between this engine and `kernels/<target>/`; kernel files that are composed of others use its `part`."""

from autoresearch_trainer.kernel_files import TARGETS, InstalledKernels

BASELINE = "mlx_eager"

INSTALLED = InstalledKernels(TARGETS, BASELINE)
installed_kernel, part = INSTALLED.installed_kernel, INSTALLED.part
