"""Evidence that goes with the project: results/kernel_lab/shipped/<device key>.jsonl.

The records are those of the machine's ledger, line for line, so that their hashes can still be checked. The files that
they name lie beside them (see `artifacts`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from autoresearch_common.files import write_atomic
from autoresearch_common.reading import read_json_lines
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.promote import artifacts
from autoresearch_lab.promote.artifacts import Opener
from autoresearch_lab.results.record import Record


@dataclass(frozen=True)
class Shipped:
    """What `add` did. left_out: {path of a file that a record names: why it was not copied}."""

    path: Path
    added: int
    left_out: dict[str, str]


def add(root: Root, device_key: str, records: Sequence[Record | None], openers: Sequence[Opener]) -> Shipped:
    """Append those records that are not there yet, and copy the files that the given ones name, from `openers`.

    Raises:
        LabError: the file holds something that is not a record, or cannot be written; the key is no device's.
    """
    check(root, device_key)
    path = _file(root, device_key)
    given = {record.id: record for record in records if record is not None}
    with FileLock(str(root.results / "shipped.lock")):
        known = read(path)
        ids = {record.id for record in known}
        new = [record for record in given.values() if record.id not in ids]
        write_atomic(path, "".join(_line(record) for record in [*known, *new]))
        return Shipped(path, len(new), artifacts.keep(root, device_key, given.values(), openers))


def check(root: Root, device_key: str) -> None:
    """Raises LabError where nothing can be added for that device."""
    artifacts.check_key(device_key)
    writable_folder(root.shipped, "shipped evidence")
    read(_file(root, device_key))


def _file(root: Root, device_key: str) -> Path:
    return root.shipped / f"{device_key}.jsonl"


def read(path: Path) -> list[Record]:
    """The records of a shipped file; none where it does not exist. Raises LabError where a line is not a record."""
    if not path.exists():
        return []
    try:
        return [Record.model_validate(value) for value in read_json_lines(path)]
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path}: not a file of records ({str(error).splitlines()[0]})") from None


def _line(record: Record) -> str:
    return json.dumps(record.plain(), sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
