"""The process and its machine as MLX sees them: settings, device, and whether the step is compiled.

Every process that trains or times calls `prepare_process` first, so that whatever is compared shares its settings.
"""

import platform
import shutil
from collections.abc import Collection, Mapping
from importlib.metadata import version

import mlx.core as mx
import numpy as np
import psutil

from autoresearch_mlx.kernel_files import BASELINE
from autoresearch_mlx.memory import on_gpu, recommended_bytes
from autoresearch_trainer.checks import Checks
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.process import cpu_name, keep_freed_memory, usable_cores
from autoresearch_trainer.record import DeviceDescription, ProcessSettings
from autoresearch_trainer.sampling import Sampler
from autoresearch_trainer.train import COMPILE_MODES

# Freed buffers that MLX keeps for the next step, of what Metal recommends as working set.
CACHE_SHARE = 0.5


def backend() -> str:
    """What MLX computes on: "metal" (an Apple GPU) or "cpu"."""
    return "metal" if on_gpu() else "cpu"


def prepare_process() -> ProcessSettings:
    """Set up memory once per process; returns what was done, for the run's record.

    On a GPU: the working set stays wired, the allocator refuses what Metal does not recommend (an error that can be
    explained, instead of a machine that swaps), and its cache of freed buffers is bounded.
    """
    limit = recommended_bytes()
    if limit is None:
        return {
            "threads": 1,
            "backend": backend(),
            "allocator": keep_freed_memory(),
            "memory_limit_mb": None,
            "wired_limit_mb": None,
        }
    mx.set_wired_limit(limit)
    mx.set_memory_limit(limit)
    mx.set_cache_limit(int(limit * CACHE_SHARE))
    return {
        "threads": 1,
        "backend": backend(),
        "allocator": f"MLX, at most {limit >> 20} MiB, wired",
        "memory_limit_mb": limit >> 20,
        "wired_limit_mb": limit >> 20,
    }


def peak_memory_mb(device: str = "mlx") -> float:
    """Highest memory so far that MLX allocated, in MiB."""
    return mx.get_peak_memory() / 2**20


def describe_software() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def describe_device(device: str = "mlx") -> DeviceDescription:
    """The device of a training run; `kind` is the engine's."""
    memory_mb = psutil.virtual_memory().total // 2**20
    if on_gpu():
        name = str(mx.device_info()["device_name"])
        return {"kind": "mlx", "backend": "metal", "name": name, "memory_mb": memory_mb}
    name = f"CPU build of MLX on {cpu_name()}"
    return {"kind": "mlx", "backend": "cpu", "name": name, "cores": usable_cores(), "memory_mb": memory_mb}


def resolve_compile(mode: str, device: str, steps: int | None) -> tuple[bool, str]:
    """(compile?, why) for `mode`. Raises ConfigError for an unknown mode, and for "on" where MLX cannot compile."""
    if mode not in COMPILE_MODES:
        raise ConfigError(f"unknown compile mode {mode!r}; known: {', '.join(COMPILE_MODES)}")
    if mode == "off":
        return False, "asked for"
    if on_gpu():
        return True, "asked for" if mode == "on" else "a GPU"
    if mode == "auto":
        return False, "the CPU build of MLX: compiling takes 20 s and saves a sixth of a step"
    if shutil.which("g++") is None:  # without it mx.compile silently does nothing
        raise ConfigError("--compile on: the CPU build of MLX compiles with g++, which is not installed")
    return True, "asked for"


def describe_attention(device: str, dtype: str, kernel: str) -> tuple[str, str]:
    """(the path that attention takes, why). `kernel`: the one selected for windowed_attention."""
    if kernel != BASELINE:
        return f"kernel {kernel}", "selected"
    return "products and softmax over a mask", "the baseline"


def compile_cache() -> None:
    """mx.compile keeps nothing beyond its process."""


def checks(
    selection: Mapping[str, KernelFile], sampler: Sampler, device: str, only: Collection[str] | None = None
) -> Checks:
    """The checks of a training with these kernels; see `run.InPlaceChecks`. Imported late: most runs have none."""
    from autoresearch_mlx.checks.run import InPlaceChecks

    return InPlaceChecks(selection, sampler, only)
