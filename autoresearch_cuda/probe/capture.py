"""Captures the workloads of a PyTorch trainer; see autoresearch_trainer.probe.capture."""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from autoresearch_common.workload import Spec
from autoresearch_trainer.jobs.base import Dtype
from autoresearch_trainer.jobs.tracing import TargetInfo
from autoresearch_trainer.probe.capture import SAMPLE_BYTES, CaptureBase, scalar_spec


class Capture(CaptureBase):
    """See CaptureBase."""

    def spec(self, name: str, value: Any, info: TargetInfo) -> Spec:
        return argument_spec(name, value)

    def leading_rows(self, array: torch.Tensor) -> torch.Tensor:
        return leading_rows(array)

    def save(self, arrays: dict[str, torch.Tensor], path: Path) -> None:
        save_file(arrays, path)


def argument_spec(name: str, value: Any) -> Spec:
    """One argument as JSON. Raises ConfigError for a value that is neither an array nor a plain scalar."""
    if isinstance(value, torch.Tensor):
        return {
            "name": name,
            "kind": "array",
            "dtype": cast(Dtype, str(value.dtype).removeprefix("torch.")),
            "shape": list(value.shape),
            "strides": list(value.stride()),
            "grad": bool(value.requires_grad and torch.is_grad_enabled()),
        }
    return scalar_spec(name, value)


def leading_rows(tensor: torch.Tensor, limit: int = SAMPLE_BYTES) -> torch.Tensor:
    """A contiguous CPU copy of as many leading rows (first axis) as `limit` bytes hold, at least one."""
    tensor = tensor.detach()
    if tensor.dim() and tensor.numel():
        row = tensor[0].numel() * tensor.element_size()
        tensor = tensor[: max(1, limit // row)]
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
