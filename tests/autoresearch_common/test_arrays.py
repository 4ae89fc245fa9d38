"""Arrays survive the way through a file, and a file that is not one is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoresearch_common.arrays import DTYPES, is_float, read_arrays, storage, write_arrays


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout_survives(dtype: str, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4)
    arrays = {
        "transposed": values.astype(storage(dtype)).T,
        "scalar": np.asarray(1).astype(storage(dtype)),
        "empty": np.zeros((0, 5), dtype=storage(dtype)),
    }
    write_arrays(tmp_path / "a.safetensors", arrays)
    found = read_arrays(tmp_path / "a.safetensors")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes()


def test_bfloat16_counts_as_floating_point() -> None:
    assert is_float(np.zeros(1, storage("bfloat16")))
    assert not is_float(np.zeros(1, storage("int64")))


def test_nan_bits_survive(tmp_path: Path) -> None:
    array = np.array([0x7FC1, 0xFFFF, 0x0001], dtype=np.uint16).view(storage("bfloat16"))
    write_arrays(tmp_path / "a.safetensors", {"x": array})
    assert read_arrays(tmp_path / "a.safetensors")["x"].tobytes() == array.tobytes()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}      trailing"])
def test_what_is_no_such_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.safetensors"):
        read_arrays(path)


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write .*missing/x: .*No such file"):
        write_arrays(tmp_path / "missing" / "x", {"a": np.zeros(3)})


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a whole file"):
        read_arrays(path)


def test_missing_linked_or_oversized_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="missing"):
        read_arrays(path)
    write_arrays(path, {"x": np.zeros(100)})
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ValueError, match="plain file"):
        read_arrays(tmp_path / "link")
    with pytest.raises(ValueError, match="at most 10"):
        read_arrays(path, most_bytes=10)
