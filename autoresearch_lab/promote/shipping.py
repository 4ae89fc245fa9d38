"""Evidence that goes with the project: results/kernel_lab/shipped/<device key>.jsonl.

The records are those of the machine's ledger, line for line, so that their hashes can still be checked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from autoresearch_lab.errors import LabError
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root, writable_folder, write_atomic
from autoresearch_lab.records import Record


def add(root: Root, context: Context, records: Sequence[Record | None]) -> Path:
    """Append those records that are not there yet; returns the file.

    Raises:
        LabError: the file holds something that is not a record, or cannot be written.
    """
    writable_folder(root.shipped, "shipped evidence")
    path = root.shipped / f"{context.device['key']}.jsonl"
    with FileLock(str(root.results / "shipped.lock")):
        known = read(path)
        ids = {record.id for record in known}
        new = [record for record in records if record is not None and record.id not in ids]
        write_atomic(path, "".join(_line(record) for record in [*known, *new]))
    return path


def read(path: Path) -> list[Record]:
    """The records of a shipped file; none where it does not exist. Raises LabError where a line is not a record."""
    if not path.exists():
        return []
    try:
        return [Record.model_validate(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path}: not a file of records ({str(error).splitlines()[0]})") from None


def _line(record: Record) -> str:
    return json.dumps(record.plain(), sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
