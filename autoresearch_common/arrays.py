"""Arrays in safetensors files, read and written with NumPy alone, bfloat16 included.

A file need not be trusted: one that is too large, torn or inconsistent is a ValueError, never a crash, and nothing in
it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

# Name of a dtype in a workload -> (its name in a safetensors file, the NumPy dtype that stores it).
DTYPES: dict[str, tuple[str, np.dtype]] = {
    "float64": ("F64", np.dtype(np.float64)),
    "float32": ("F32", np.dtype(np.float32)),
    "float16": ("F16", np.dtype(np.float16)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
    "int64": ("I64", np.dtype(np.int64)),
    "int32": ("I32", np.dtype(np.int32)),
    "uint32": ("U32", np.dtype(np.uint32)),
    "uint8": ("U8", np.dtype(np.uint8)),
    "bool": ("BOOL", np.dtype(np.bool_)),
}
_BY_TAG = {tag: dtype for tag, dtype in DTYPES.values()}


def storage(dtype: str) -> np.dtype:
    """The NumPy dtype that stores a workload's dtype. Raises KeyError for an unknown one."""
    return DTYPES[dtype][1]


def is_float(array: np.ndarray) -> bool:
    """Whether the elements are floating-point numbers; NumPy alone does not count bfloat16 as one."""
    return array.dtype == ml_dtypes.bfloat16 or np.issubdtype(array.dtype, np.floating)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays (any strides) contiguously, with what else the file is to say.

    Raises OSError where the file cannot be written.
    """
    # NumPy knows bfloat16 by name only, which is all that the writer asks for.
    dense = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    try:
        save_file(dense, str(path), metadata)
    except safetensors.SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from None


def read_arrays(path: Path, most_bytes: int | None = None) -> dict[str, np.ndarray]:
    """All arrays of a file, read-only.

    Raises:
        ValueError: it is missing, larger than `most_bytes`, or not a whole safetensors file.
    """
    try:
        if not path.is_file() or path.is_symlink():
            raise ValueError(f"{path.name} is missing or not a plain file")
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise ValueError(f"{path.name} has {path.stat().st_size} bytes; at most {most_bytes} were expected")
        entries = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(entry["data"], dtype=_BY_TAG[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
    except OSError as error:
        raise ValueError(f"cannot read {path.name}: {error.strerror}") from None
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"{path.name} is not a whole file of arrays: {error}") from None
