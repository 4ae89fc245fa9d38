"""Files that go with shipped records: raw samples and profiles, in results/kernel_lab/shipped/<device key>/.

A record names a file by the path that it had on its machine, and the next run may write that path anew. So the copies
are named by content, `<16 digits of the SHA-256>-<file name>`, and stay what the record speaks of.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import file_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Artifact, Record

# What is committed stays in the history for good.
MOST_FILE_BYTES, MOST_BYTES = 4 << 20, 48 << 20
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

# Opens a file by the path that a record names; None where it is not there.
Opener = Callable[[str], BinaryIO | None]


def kept_at(root: Root, device_key: str, artifact: Artifact) -> Path:
    """Where the shipped copy of a record's file lies, if there is one."""
    return root.shipped / device_key / f"{artifact.sha256[:16]}-{PurePosixPath(artifact.path).name}"


def keep(root: Root, device_key: str, records: Iterable[Record], openers: Sequence[Opener]) -> dict[str, str]:
    """Copy the files that the records name beside them, each from the first opener that has it as recorded.

    Returns {path: why it was left out}; the record itself counts without its file.

    Raises:
        LabError: the device's key is no name for a folder.
        OSError: a copy cannot be written.
    """
    check_key(device_key)
    left_out: dict[str, str] = {}
    total = sum(path.stat().st_size for path in (root.shipped / device_key).glob("*"))
    for artifact in {(one.path, one.sha256): one for record in records for one in record.artifacts or []}.values():
        try:
            target = kept_at(root, device_key, artifact)
            if target.is_file() and file_sha256(target) == artifact.sha256:
                continue
            content = _read(artifact, openers)
            if total + len(content) > MOST_BYTES:
                raise LabError(f"the files of this device would exceed {MOST_BYTES >> 20} MiB")
        except LabError as error:
            left_out[artifact.path] = str(error)
            continue
        write_atomic(target, content)
        total += len(content)
    return left_out


def check_key(device_key: str) -> None:
    """Raises LabError for a device's key that is no plain name: it becomes the name of a file."""
    if not PLAIN_NAME.fullmatch(device_key):
        raise LabError(f"shipped evidence: {device_key!r} is no device's key")


def from_folder(root: Root) -> Opener:
    """The files of a lab's own folder."""

    def opened(path: str) -> BinaryIO | None:
        file = root.path / path
        return file.open("rb") if file.is_file() else None

    return opened


def _read(artifact: Artifact, openers: Sequence[Opener]) -> bytes:
    """Raises LabError where the file is nowhere as recorded, too large, or its path leads out of the folder."""
    path = PurePosixPath(artifact.path)
    if path.is_absolute() or ".." in path.parts or not PLAIN_NAME.fullmatch(path.name):
        raise LabError("its path leads out of the lab's folder, or is no plain name")
    reason = "missing"
    for opener in openers:
        file = opener(artifact.path)
        if file is None:
            continue
        with file:
            content = file.read(MOST_FILE_BYTES + 1)  # no further: a size that is stated may not be true
        if len(content) > MOST_FILE_BYTES:
            reason = f"larger than {MOST_FILE_BYTES >> 20} MiB"
        elif hashlib.sha256(content).hexdigest() != artifact.sha256:
            reason = "not what was recorded"
        else:
            return content
    raise LabError(reason)
