"""Downloaded files and the notes beside them, by which a file that was damaged since is known.

`<name>.json` holds the server's ETag and the size and SHA-256 that the file had when it came.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from autoresearch_common.files import replacing_file
from autoresearch_common.hashing import file_sha256
from autoresearch_common.reading import read_json


def note_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def keep_note(path: Path, etag: str | None, size: int, sha256: str) -> None:
    """Note what `path` is; to be called before the file gets that name, so that none is ever without its note."""
    with replacing_file(note_of(path)) as temporary:
        temporary.write_text(json.dumps({"etag": etag, "sha256": sha256, "bytes": size}) + "\n", encoding="utf-8")


def damage(path: Path) -> str | None:
    """What is wrong with a downloaded file, in words; None where it is whole. Reads all of it.

    A file without a note, put there by hand for instance, is taken as it is if it can be opened, and gets one.
    """
    try:
        note = read_json(note_of(path))
        size, sha256 = int(note["bytes"]), str(note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        if not opens(path):
            return "is no readable parquet file"
        keep_note(path, None, path.stat().st_size, file_sha256(path))
        return None
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes, not the {size} that came"
        return None if file_sha256(path) == sha256 else "has not the content that came: its SHA-256 differs"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def opens(path: Path, name: str | None = None) -> bool:
    """Whether a parquet file has its footer; `name`: what decides that it is one (default: its own). True of others."""
    if not (name or path.name).endswith(".parquet"):
        return True
    try:
        pq.ParquetFile(path).close()
    except (pa.ArrowException, OSError):
        return False
    return True
