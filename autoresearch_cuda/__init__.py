"""The PyTorch engine: model, optimizer, trainer and evaluation, on NVIDIA GPUs and on the CPU."""

from autoresearch_cuda import compile_cache
from autoresearch_trainer import kernel_files

kernel_files.before_loading.append(compile_cache.follow)
