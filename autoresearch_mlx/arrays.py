"""MLX arrays to and from NumPy and safetensors; bfloat16 travels as ml_dtypes.bfloat16."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from autoresearch_common.arrays import read_arrays, storage, write_arrays
from autoresearch_trainer.errors import ConfigError

BFLOAT16 = storage("bfloat16")
# Name in a workload -> MLX's dtype.
DTYPES = {
    name: getattr(mx, name) for name in ("float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8")
} | {"bool": mx.bool_}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def to_numpy(array: mx.array) -> np.ndarray:
    """A copy on the host; the array is evaluated."""
    if array.dtype != mx.bfloat16:
        return np.array(array)
    return np.array(array.reshape(-1).view(mx.uint16)).view(BFLOAT16).reshape(array.shape)


def save(arrays: Mapping[str, np.ndarray], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write NumPy arrays (bfloat16 among them) as safetensors."""
    write_arrays(path, arrays, metadata)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read safetensors into NumPy arrays. Raises ConfigError if the file cannot be read."""
    try:
        return read_arrays(Path(path).resolve())
    except ValueError as error:
        raise ConfigError(f"cannot read {path} as safetensors: {error}") from error
