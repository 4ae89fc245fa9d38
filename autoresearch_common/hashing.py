"""Content hashes: one definition each, shared by every package above this one.

All hashes are lower-case hexadecimal SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from autoresearch_common.reading import open_regular

NATIVE_SUFFIXES = (".cpp", ".cu", ".metal")
KERNEL_SUFFIXES = tuple(sorted((".py", *NATIVE_SUFFIXES)))
_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, read in chunks so that the size of the file does not matter.

    Raises OSError where the file cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: keys sorted, no spaces, ASCII escapes.

    Raises ValueError for NaN and infinities (they are not JSON) and TypeError for what JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def kernel_hash(py_path: Path | str) -> str:
    """Content hash of a kernel: its Python file together with native sources of the same stem.

    Raises FileNotFoundError where the Python file is missing.
    """
    return contents_hash(kernel_contents(py_path))


def kernel_contents(py_path: Path | str) -> dict[str, bytes]:
    """{suffix: content} of a kernel's files. Raises FileNotFoundError where the Python file is missing."""
    python_file = Path(py_path)
    if not python_file.is_file():
        raise FileNotFoundError(f"no kernel file {python_file}")
    # with_suffix only for native sources: the Python file may have any name.
    paths = {suffix: python_file if suffix == ".py" else python_file.with_suffix(suffix) for suffix in KERNEL_SUFFIXES}
    return {suffix: path.read_bytes() for suffix, path in paths.items() if path.is_file()}


def contents_hash(contents: dict[str, bytes]) -> str:
    """Content hash of a kernel with these files.

    The stem is left out, so a kernel keeps its hash when it is copied to another name (kernel.py + kernel.cpp).
    For each suffix that exists, in sorted order: ``suffix NUL length NUL bytes``. The length makes the boundary
    between two files unambiguous.
    """
    digest = hashlib.sha256()
    for suffix, content in sorted(contents.items()):
        digest.update(suffix.encode("ascii") + b"\0" + str(len(content)).encode("ascii") + b"\0" + content)
    return digest.hexdigest()
