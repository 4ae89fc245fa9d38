"""The evidence ledger: append-only JSON lines, locked, fsynced, hash-chained.

A torn last line (the machine died while writing) is set aside and reported, never a reason to fail; a broken line
anywhere else is corruption and is refused, because evidence behind it can no longer be trusted.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

import jsonlines
from filelock import FileLock, Timeout
from pydantic import BaseModel

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.results.lines import read
from autoresearch_lab.results.record import SCHEMA, R, Record, class_of

LOCK_SECONDS = 60.0


class LedgerCorrupt(LabError):
    """A line in the middle of the ledger cannot be read."""


class Ledger:
    """Reads and appends the records of one ledger file. Every append takes the file's lock.

    excerpt: it begins with single records of another ledger, whose chain is looked after there.
    """

    def __init__(self, path: Path, excerpt: bool = False) -> None:
        self.path = Path(path)
        self._excerpt = excerpt
        self._cache: tuple[tuple[int, int], list[Record]] | None = None

    def records(self) -> list[Record]:
        """All whole records, oldest first.

        Raises:
            LabError: the file cannot be read.
            LedgerCorrupt: a line other than the last cannot be parsed.
        """
        with _told("read", self.path):
            if not self.path.exists():
                return []
            status = self.path.stat()
            key = (status.st_mtime_ns, status.st_size)
            if self._cache is None or self._cache[0] != key:
                self._cache = (key, list(_parse(self.path, _whole_lines(self.path)[0], self._excerpt)))
            return list(self._cache[1])

    def check(self) -> None:
        """Whether a record could be appended; to be asked before long work, whose result would be lost otherwise.

        Nothing is written, no folder is made and no lock is waited for.

        Raises:
            LabError: the ledger cannot be read, or its folder, its file or its lock cannot be written.
            LedgerCorrupt: as `records`.
        """
        self.records()
        with _told("append to", self.path):
            folder = next(folder for folder in self.path.parents if folder.exists())
            writable_folder(folder, "ledger")
            for path in (self.path, self._lock):
                if path.exists():
                    with open(path, "r+b"):
                        pass

    @overload
    def append(self, kind: type[R], **fields: Any) -> R: ...
    @overload
    def append(self, kind: str, **fields: Any) -> Record: ...
    def append(self, kind: Any, **fields: Any) -> Any:
        """Write one record and return it. kind: the record's class, or its kind as text. `fields` are those of the
        class except schema, id, prev, time and commit; where it has types, they or their JSON form.

        Raises:
            LabError: the folder, the file or its lock cannot be written, or another process holds the lock too long.
            LedgerCorrupt: the ledger is broken; nothing is appended to it then.
            ValueError: the fields are not those of the class.
        """
        writable_folder(self.path.parent, "ledger")
        try:
            with _told("append to", self.path), FileLock(self._lock, timeout=LOCK_SECONDS):
                self._set_torn_line_aside()
                records = self.records()
                record = _seal(kind, records[-1].id if records else None, fields)
                self._write_line(record)
        except Timeout:
            raise LabError(f"ledger: {self.path} has been locked by another process for {LOCK_SECONDS:.0f} s") from None
        return record

    @overload
    def find(self, of: type[R], /, **criteria: Any) -> list[R]: ...
    @overload
    def find(self, /, **criteria: Any) -> list[Record]: ...
    def find(self, of: Any = Record, /, **criteria: Any) -> Any:
        """Records of that class whose fields equal `criteria`, oldest first, without those that the lab did not write
        so (`Record.fault`); `kernel_sha256`, `device_key`, `software_key` and `workloads_sha256` look inside."""
        sound = (record for record in self.records() if record.fault is None)
        return [record for record in sound if isinstance(record, of) and _matches(record, criteria)]

    def latest(self, **criteria: Any) -> Record | None:
        """The newest record that `find` gives, or None."""
        found = self.find(**criteria)
        return found[-1] if found else None

    def get(self, record_id: str) -> Record | None:
        """The record with that id (a unique prefix of at least 8 characters will do)."""
        found = [record for record in self.records() if record.id.startswith(record_id)] if len(record_id) >= 8 else []
        return found[0] if len(found) == 1 else None

    def problems(self) -> list[str]:
        """What is wrong with the chain, in words; empty where every record is what was written, in order."""
        numbered = enumerate(self.records(), start=1)
        return [f"record {number} ({record.kind}) {record.fault}" for number, record in numbered if record.fault]

    @property
    def _lock(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _set_torn_line_aside(self) -> None:
        """Move an incomplete last line to `<ledger>.torn`, so that the next record starts on a line of its own."""
        if not self.path.exists():
            return
        lines, torn = _whole_lines(self.path)
        if torn is None:
            return
        with open(self.path.with_name(self.path.name + ".torn"), "ab") as aside:
            aside.write(torn + b"\n")
        keep = sum(len(line) + 1 for line in lines)
        with open(self.path, "r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())

    def _write_line(self, record: Record) -> None:
        buffer = io.StringIO()
        with jsonlines.Writer(buffer, dumps=_dumps) as writer:
            writer.write(record.plain())
        with open(self.path, "ab") as file:
            file.write(buffer.getvalue().encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _told(action: str, path: Path) -> Iterator[None]:
    """What the system refuses about the ledger's files, as one line that names the file.

    Raises:
        LabError: in place of any OSError but the lock's own Timeout.
    """
    try:
        yield
    except Timeout:
        raise  # an OSError as well
    except OSError as error:
        named = f" ({error.filename})" if error.filename not in (None, str(path), path) else ""
        raise LabError(f"ledger: cannot {action} {path}{named}: {error.strerror or error}") from None


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _seal(kind: type[Record] | str, prev: str | None, fields: dict[str, Any]) -> Record:
    given = {name: _plain(value) for name, value in fields.items() if value is not None}
    about = {"kind": kind, **given}
    made = class_of(about) if isinstance(kind, str) else kind
    draft = made.model_validate(
        {
            **given,
            "schema": SCHEMA,
            "id": "",
            "prev": prev,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": kind if isinstance(kind, str) else made.kind_name(),
            "commit": commit_of(CHECKOUT),
        }
    )
    # Through JSON once, so that the hash is that of what a reader will see (tuples become lists, ints stay ints).
    plain = json.loads(_dumps(draft.plain()))
    del plain["id"]
    return read({**plain, "id": json_sha256(plain)})


def _plain(value: Any) -> Any:
    """A type in its JSON form, without what was left out."""
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True) if isinstance(value, BaseModel) else value


def _whole_lines(path: Path) -> tuple[list[bytes], bytes | None]:
    """(complete lines without their newline, the torn rest or None). A line is complete when it ends in a newline."""
    *lines, rest = path.read_bytes().split(b"\n")
    return lines, rest or None


def _parse(path: Path, lines: Iterable[bytes], excerpt: bool) -> Iterator[Record]:
    previous: str | None = None
    for number, line in enumerate(lines, start=1):
        try:
            record = read(json.loads(line))
            record._fault = _fault(record, record.prev if excerpt else previous)
            previous = record.id
            yield record
        except (ValueError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise LedgerCorrupt(
                f"ledger: line {number} of {path} cannot be read ({reason}); nothing was changed. "
                "Restore the line from a copy, or move the file away to start a new ledger"
            ) from None


def _fault(record: Record, previous: str | None) -> str | None:
    """What is wrong with a line after the record with the id `previous`, in words."""
    plain = record.plain()
    if plain.pop("id") != json_sha256(plain):
        return "was changed after it was written"
    return None if record.prev == previous else "does not follow the record before it"


def _matches(record: Record, criteria: dict[str, Any]) -> bool:
    for name, wanted in criteria.items():
        if name == "kernel_sha256":
            actual: Any = record.kernel.sha256 if record.kernel else None
        elif name == "device_key":
            actual = record.device_key
        elif name == "software_key":
            actual = record.software_key
        elif name == "workloads_sha256":
            actual = getattr(record.workloads, "sha256", None)
        else:
            actual = getattr(record, name)
        if actual != wanted:
            return False
    return True


def commit_of(folder: Path) -> str | None:
    """Short commit of the checkout, with `+` where tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
