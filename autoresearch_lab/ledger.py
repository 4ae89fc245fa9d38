"""The evidence ledger: append-only JSON lines, locked, fsynced, hash-chained.

A torn last line (the machine died while writing) is set aside and reported, never a reason to fail; a broken line
anywhere else is corruption and is refused, because evidence behind it can no longer be trusted.
"""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

import jsonlines
from filelock import FileLock, Timeout
from pydantic import BaseModel

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import json_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger_index import COLUMNS, LedgerIndex, Line, LineUnreadable, hash_fault
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.lines import bare, read
from autoresearch_lab.results.record import CLASSES, SCHEMA, R, Record, class_of

LOCK_SECONDS = 60.0
MOST_HEAD_BYTES = 1 << 20


class LedgerCorrupt(LabError):
    """A line in the middle of the ledger cannot be read."""


class Head(BaseModel):
    """Where the chain stood after the last append: how many `records` there were, and the id of the `last` one.

    lost: what was missing of an earlier head, in words; it is told until this file is taken away.
    """

    records: int = 0
    last: str = ""
    lost: list[str] = []


class Ledger:
    """Reads and appends the records of one ledger file. Every append takes the file's lock.

    excerpt: it begins with single records of another ledger, whose chain is looked after there.
    """

    def __init__(self, path: Path, excerpt: bool = False) -> None:
        # Whoever reaches the file by a link has to take the same lock.
        self._given, self.path = Path(path), Path(os.path.realpath(path))
        self._excerpt = excerpt
        self._index = LedgerIndex(self.path, excerpt)
        self._seen = False

    def records(self) -> list[Record]:
        """All whole records, oldest first.

        Raises:
            LabError: the file cannot be read.
            LedgerCorrupt: a line other than the last cannot be parsed.
        """
        return list(self.each())

    def each(self, newest_first: bool = False, **criteria: Any) -> Iterator[Record]:
        """The same one after the other, those alone whose fields equal `criteria` (see `find`).

        Raises:
            LabError, LedgerCorrupt: as `records`.
        """
        for record in self._read(criteria, None, sound=False, newest_first=newest_first):
            if _matches(record, criteria):
                yield record

    def check(self) -> None:
        """Whether a record could be appended; to be asked before long work, whose result would be lost otherwise.

        Nothing is written, no folder is made and no lock is waited for.

        Raises:
            LabError: the ledger cannot be read, or its folder, its file or its lock cannot be written.
            LedgerCorrupt: as `records`.
        """
        self._catch_up()
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
        if self._seen and not self.path.exists():
            raise LabError(f"ledger: {self.path} was deleted while the lab worked; put it back, or begin a new one")
        writable_folder(self.path.parent, "ledger")
        try:
            with _told("append to", self.path), FileLock(self._lock, timeout=LOCK_SECONDS):
                last = self._last()
                lost = self._lost()
                self._end_last_line()
                record = _seal(kind, last.id if last else None, fields)
                self._write_line(record)
                self._catch_up()
                self._write_head(lost)
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
        return list(self.newest(of, **criteria))[::-1]

    @overload
    def newest(self, of: type[R], /, **criteria: Any) -> Iterator[R]: ...
    @overload
    def newest(self, /, **criteria: Any) -> Iterator[Record]: ...
    def newest(self, of: Any = Record, /, **criteria: Any) -> Iterator[Any]:
        """What `find` gives, newest first, each record read when it is asked for."""
        for record in self._read(criteria, of, sound=True, newest_first=True):
            if isinstance(record, of) and record.fault is None and _matches(record, criteria):
                yield record

    def latest(self, **criteria: Any) -> Record | None:
        """The newest record that `find` gives, or None."""
        return next(self.newest(**criteria), None)

    def get(self, record_id: str) -> Record | None:
        """The record with that id (a unique prefix of at least 8 characters will do)."""
        self._catch_up()
        found = self._index.starting_with(record_id) if len(record_id) >= 8 else []
        return next(self._records_at(found)) if len(found) == 1 else None

    def count(self) -> int:
        """How many whole records there are."""
        last = self._last()
        return last.number if last else 0

    def newest_id(self) -> str | None:
        """Of the last record; None where there is none."""
        last = self._last()
        return last.id if last else None

    @property
    def torn(self) -> bool:
        """Whether the file ends in a part of a line."""
        self._catch_up()
        return self.path.exists() and self._index.size < self.path.stat().st_size

    def problems(self) -> list[str]:
        """What is wrong with the chain, in words; empty where every record is what was written, in order. Of a large
        ledger that was read before only what has been appended since is looked at (see `read_again`)."""
        self._catch_up()
        faults = [f"record {line.number} ({line.kind}) {line.fault}" for line in self._index.faulty()]
        return faults + self._lost()

    def read_again(self, tell: Callable[[int, int], None] = lambda done, size: None) -> None:
        """Forget what is known of the file, and read all of it. `tell` hears how many bytes of how many are read."""
        self._index.forget()
        self._catch_up(tell)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    @property
    def _head(self) -> Path:
        return self.path.with_name(self.path.name + ".head")

    def _catch_up(self, tell: Callable[[int, int], None] = lambda done, size: None) -> None:
        with _told("read", self.path):
            self._seen = self._seen or self.path.exists()
            if self._given.is_symlink() and not self._given.exists():  # of a disk that is not mounted, perhaps
                raise LabError(f"ledger: {self._given} is a link that leads nowhere")
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if self.path.exists() and not self.path.is_file():
                raise LabError(f"ledger: {self.path} is no regular file")
            try:
                self._index.catch_up(tell)
            except LineUnreadable as error:
                raise _corrupt(self.path, error.number, error) from None

    def _last(self) -> Line | None:
        self._catch_up()
        return self._index.last()

    def _read(self, criteria: Mapping[str, Any], of: Any, *, sound: bool, newest_first: bool) -> Iterator[Record]:
        """Records that the index names for `criteria`, as far as it knows them."""
        self._catch_up()
        classes = None if of in (None, Record) else [each.__name__ for each in _classes(of)]
        known = {name: value for name, value in criteria.items() if name in (*COLUMNS, "id")}
        yield from self._records_at(self._index.lines(known, classes, sound=sound, newest_first=newest_first))

    def _records_at(self, lines: Iterable[Line]) -> Iterator[Record]:
        with _told("read", self.path):
            file = open(self.path, "rb") if self.path.exists() else io.BytesIO()
            with file:
                for line in lines:
                    file.seek(line.start)
                    raw = file.read(line.length)
                    try:
                        content = json.loads(raw)
                        fault = hash_fault(content, raw) or line.fault
                        record = _read_faulty(content) if fault else read(content)
                        record._fault = fault
                    except (ValueError, TypeError, AttributeError) as error:
                        raise _corrupt(self.path, line.number, error) from None
                    yield record

    def _lost(self) -> list[str]:
        """What the head says of records that were there and are not, in words."""
        head = self._read_head()
        if not head.records or self._index.starting_with(head.last):
            return head.lost
        last = self._index.last()
        missing = head.records - (last.number if last else 0)
        if missing > 0:
            found = f"the newest {missing} of {head.records} records are gone ({self._head.name} counted them)"
        else:
            found = f"record {head.records} is another than was written here ({self._head.name} names it)"
        return [*head.lost, found]

    def _read_head(self) -> Head:
        try:
            return Head.model_validate_json(self._head.read_bytes()[:MOST_HEAD_BYTES])
        except (OSError, ValueError):
            return Head()

    def _write_head(self, lost: list[str]) -> None:
        """Where the chain stands now. A record that is in the file counts without it, so a full disk is no failure."""
        last = self._index.last()
        assert last is not None
        with suppress(OSError):
            write_atomic(self._head, Head(records=last.number, last=last.id, lost=lost).model_dump_json())

    def _end_last_line(self) -> None:
        """End a whole last line that has no newline, and move a torn one to `<ledger>.torn`, so that the next record
        starts on a line of its own."""
        if not self.path.exists():
            return
        with open(self.path, "r+b") as file:
            file.seek(self._index.size)
            torn = file.read()
            if torn.strip():
                with open(self.path.with_name(self.path.name + ".torn"), "ab") as aside:
                    aside.write(torn.rstrip(b"\n") + b"\n")
                file.truncate(self._index.size)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":
                file.write(b"\n")  # reaches the disk with the record

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


def _read_faulty(content: Facts) -> Record:
    """Of a line that somebody changed: its types, too, may be none any more."""
    try:
        return read(content)
    except ValueError:
        return bare(content)


def _corrupt(path: Path, number: int, error: Exception) -> LedgerCorrupt:
    return LedgerCorrupt(
        f"ledger: line {number} of {path} cannot be read ({str(error).splitlines()[0]}); nothing was changed. "
        "Restore the line from a copy, or move the file away to start a new ledger"
    )


def _classes(of: Any) -> list[type[Record]]:
    """The record classes that a class, or a union of some, stands for."""
    return [made for made in {*CLASSES.values()} if issubclass(made, of)]


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
