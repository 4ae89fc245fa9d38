"""What stands between this engine and `kernels/<target>/`; kernel files that are composed of others use its `part`."""

from autoresearch_trainer.kernel_files import (
    KERNELS_ROOT,
    TARGETS,
    InstalledKernels,
    Kernel,
    KernelFile,
    content_hash,
    load_kernel,
)

__all__ = [
    "BASELINE",
    "KERNELS_ROOT",
    "INSTALLED",
    "TARGETS",
    "Kernel",
    "KernelFile",
    "content_hash",
    "installed_kernel",
    "load_kernel",
    "part",
]

BASELINE = "mlx_eager"

INSTALLED = InstalledKernels(TARGETS, BASELINE)
installed_kernel, part = INSTALLED.installed_kernel, INSTALLED.part
