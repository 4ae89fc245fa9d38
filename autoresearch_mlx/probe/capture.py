"""Captures the workloads of an MLX trainer; see autoresearch_trainer.probe.capture.

Arrays of MLX do not say whether a gradient is needed, so that the contract decides; and what the compiled step passes
as an array of one element (a learning rate) is a scalar where the contract says so.
"""

from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from autoresearch_common.workload import Spec
from autoresearch_mlx import arrays as files
from autoresearch_mlx.arrays import NAMES, to_numpy
from autoresearch_trainer.jobs.base import Dtype
from autoresearch_trainer.jobs.tracing import TargetInfo
from autoresearch_trainer.probe.capture import SAMPLE_BYTES, CaptureBase, scalar_spec


class Capture(CaptureBase):
    """See CaptureBase."""

    def spec(self, name: str, value: Any, info: TargetInfo) -> Spec:
        if isinstance(value, mx.array) and name in info.scalars:
            value = value.item()
        if not isinstance(value, mx.array):
            return scalar_spec(name, value)
        return {
            "name": name,
            "kind": "array",
            "dtype": cast(Dtype, NAMES[value.dtype]),
            "shape": list(value.shape),
            "strides": strides(value),
            "grad": info.phase == "forward" and name in info.grads,
        }

    def leading_rows(self, array: mx.array) -> np.ndarray:
        if array.ndim and array.size:
            row = array.nbytes // array.shape[0]
            array = array[: max(1, SAMPLE_BYTES // row)]
        return to_numpy(array)

    def save(self, arrays: dict[str, np.ndarray], path: Path) -> None:
        files.save(arrays, path)


def strides(array: mx.array) -> list[int]:
    """In elements, as a kernel is handed them; the array is evaluated."""
    if array.ndim == 0:
        return []
    mx.eval(array)
    stored: Any = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    view = memoryview(stored)
    return [step // view.itemsize for step in view.strides or ()]
