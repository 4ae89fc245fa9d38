"""The seam between this engine and `kernels/<target>/`; kernel files that are composed of others use its `part`."""

from autoresearch_trainer.seam import KERNELS_ROOT, TARGETS, Kernel, KernelFile, Seam, content_hash, load_kernel

__all__ = [
    "BASELINE",
    "KERNELS_ROOT",
    "SEAM",
    "TARGETS",
    "Kernel",
    "KernelFile",
    "content_hash",
    "installed_kernel",
    "load_kernel",
    "part",
]

BASELINE = "mlx_eager"

SEAM = Seam(TARGETS, BASELINE)
installed_kernel, part = SEAM.installed_kernel, SEAM.part
