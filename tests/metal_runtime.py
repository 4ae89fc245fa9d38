"""Has the lab's jobs that run Metal kernels on the CPU find the run time of these compiled, which takes longer than
most kernels do."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from autoresearch_common import compiler

CHILD = "autoresearch_lab.sandbox.child"


def _popen(command: list[str], **options: Any) -> subprocess.Popen:
    environment = options.get("env") or {}
    if _is_metal(command, environment):
        _add_runtime(Path(environment["AUTORESEARCH_CACHE"]) / "metal_cpu")
    return subprocess.Popen(command, **options)


# What takes the place of the module in `sandbox.parent`.
SUBPROCESS = SimpleNamespace(Popen=_popen, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)


def _is_metal(command: list[str], environment: dict[str, str]) -> bool:
    """Whether that job runs Metal kernels on the CPU, with a cache of its own, which is empty."""
    if command[-2] != CHILD:
        return False
    job = json.loads(Path(command[-1]).read_text(encoding="utf-8"))
    metal = job.get("engine_package") == "autoresearch_mlx" and job["args"].get("interpreted")
    return bool(metal and environment.get("AUTORESEARCH_CACHE", "").startswith(job["run_dir"]))


def _add_runtime(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for built in _runtime():
        shutil.copy2(built, folder / built.name)


@cache
def _runtime() -> list[Path]:
    """The objects that this process's cache has after an empty kernel was built in both ways."""
    from autoresearch_mlx import metal_cpu

    for check in (False, True):
        kernel = metal_cpu.metal_kernel("nothing", [], ["y"], "y[0] = thread_position_in_grid.x;", check=check)
        kernel(inputs=[], output_shapes=[(1,)], output_dtypes=[np.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    return sorted((compiler.cache_root() / "metal_cpu").glob("*.o"))
