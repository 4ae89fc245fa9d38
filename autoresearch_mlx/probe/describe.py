"""Job `describe`: which device this is and with which software, as evidence is keyed by them.

An Apple GPU and the CPU build of MLX are different kinds of device, so that nothing proven on one applies to the other.
"""

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.probe import Report
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.base import Facts
from autoresearch_trainer.jobs.machine import DescribeAnswer, DescribeArgs
from autoresearch_trainer.probe.identity import describe_compiler, describe_cpu, installed, output


def run(args: DescribeArgs, run_dir: Path, report: Report) -> DescribeAnswer:
    """Of the device "mlx"."""
    return DescribeAnswer(device=describe(args.device), software=describe_software())


def describe(kind: str) -> Facts:
    """Identity of what MLX computes on here. Raises ConfigError for another kind than "mlx"."""
    if kind != "mlx":
        raise ConfigError(f"unknown device {kind!r}; known: mlx")
    return _gpu() if on_gpu() else {**describe_cpu(), "kind": "mlx-cpu"}


def _gpu() -> Facts:
    facts: Mapping[str, Any] = mx.device_info()
    cores = re.search(r"Total Number of Cores:\s*(\d+)", output(["system_profiler", "SPDisplaysDataType"]))
    return {
        "kind": "mlx-gpu",
        "name": facts["device_name"],
        "architecture": facts["architecture"],
        "cores": int(cores[1]) if cores else None,
        "memory_gb": round(facts["memory_size"] / 2**30),
        "os": platform.system(),
        "arch": platform.machine(),
    }


def describe_software() -> dict[str, str | None]:
    """Versions of what runs or builds kernels; None where there is none."""
    return {
        "python": platform.python_version(),
        "mlx": installed("mlx"),
        "backend": installed("mlx-metal" if on_gpu() else "mlx-cpu"),
        "numpy": np.__version__,
        # On a GPU the system compiles Metal; on the CPU MLX compiles with the C++ compiler.
        "system": platform.mac_ver()[0] or None,
        "compiler": None if on_gpu() else describe_compiler(),
    }
