"""MLX arrays to and from NumPy and safetensors; bfloat16 travels as ml_dtypes.bfloat16."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from autoresearch_trainer.errors import ConfigError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Name in a safetensors file -> NumPy's dtype.
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
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
    dense = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in arrays.items()}
    save_file(dense, str(path), metadata)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read safetensors into NumPy arrays. Raises ConfigError if the file cannot be read."""
    try:
        entries = deserialize(Path(path).read_bytes())
        return {n: np.frombuffer(e["data"], _DTYPES[e["dtype"]]).reshape(e["shape"]) for n, e in entries}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(f"cannot read {path} as safetensors: {error}") from error
