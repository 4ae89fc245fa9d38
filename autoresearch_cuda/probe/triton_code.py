"""What a kernel brought along of Triton; nothing here imports it."""

import sys
from collections.abc import Callable
from typing import Any

from autoresearch_trainer.jobs.calls import Configuration
from autoresearch_trainer.probe.native_code import definitions


def configurations() -> list[Configuration]:
    """The configurations that tuned Triton kernels of this process ran with (see `triton_kit.chosen`)."""
    kit = sys.modules.get("autoresearch_cuda.triton_kit")
    return [Configuration(**found) for found in kit.chosen()] if kit is not None else []


def uses_triton(function: Callable[..., Any]) -> bool:
    """Whether the module that defines the kernel holds Triton kernels."""
    return any(type(value).__module__.startswith("triton.") for value in definitions(function).values())
