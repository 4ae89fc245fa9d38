"""Where in a ledger's file each record lies, so that one is found without reading the others.

The index is made from the file and can be made again at any time. It answers where to look, and nothing else: what is
found there is read from the file, and its hash is held against it. That of a large file is kept beside it, that of a
small one in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.record import class_of

# Below this a file is read in less time than an index is opened.
LEAST_KEPT_BYTES = 8 << 20
# How long to wait for another process that brings the index up to date.
WAIT_SECONDS = 60.0
# What records are looked up by.
COLUMNS = ("kind", "class", "target", "engine", "kernel_sha256", "device_key", "software_key", "workloads_sha256")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, start INTEGER, length INTEGER, id TEXT, fault TEXT,
                                  {", ".join(f"{name} TEXT" for name in COLUMNS)});
CREATE INDEX IF NOT EXISTS by_id ON lines (id);
CREATE INDEX IF NOT EXISTS by_target ON lines (target, class, number);
CREATE INDEX IF NOT EXISTS by_class ON lines (class, number);
CREATE INDEX IF NOT EXISTS by_fault ON lines (number) WHERE fault IS NOT NULL;
CREATE TABLE IF NOT EXISTS read (size INTEGER, mtime_ns INTEGER);
"""


class LineUnreadable(ValueError):
    """A line that is no JSON object, or of no kind that is known. number: from 1."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


@dataclass(frozen=True)
class Line:
    """A record's place. number: from 1; start, length: in bytes; fault: what is wrong with its hash or its place in the
    chain, in words."""

    number: int
    start: int
    length: int
    id: str
    kind: str
    fault: str | None


class LedgerIndex:
    """The index of one ledger file. excerpt: see `Ledger`. Raises OSError where the file cannot be read."""

    def __init__(self, path: Path, excerpt: bool) -> None:
        self._path, self._excerpt = path, excerpt
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        # Whether the index may be a file, and whether the present one is.
        self._keeps, self._kept = not excerpt, False

    def catch_up(self, tell: Callable[[int, int], None] = lambda done, size: None) -> None:
        """Read what has been appended, or all where the file is another than before. `tell` hears how many bytes of how
        many are read.

        Raises:
            LineUnreadable: for the first such line; the index ends before it.
        """
        with self._lock:
            try:
                status = self._path.stat()
            except (FileNotFoundError, NotADirectoryError):
                self.forget()
                self._open()
                return
            try:
                self._read_on(status, tell)
            except sqlite3.OperationalError:  # locked for too long, or not to be written here
                self._keeps = False
                self._open()
                self._read_on(status, tell)
            except sqlite3.DatabaseError:  # damaged
                self.forget()
                self._read_on(status, tell)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            if self._keeps:
                for path in (self._place, self._place.with_name(self._place.name + "-journal")):
                    with suppress(OSError):
                        path.unlink()

    def lines(
        self, criteria: Mapping[str, Any], classes: Sequence[str] | None = None, *, sound: bool, newest_first: bool
    ) -> Iterator[Line]:
        """Those that fit, as far as the index knows. criteria: {one of COLUMNS or "id": value}; classes: names of
        record classes; sound: without those that have a fault."""
        terms = [f"{name} IS ?" for name in criteria] + (["fault IS NULL"] if sound else [])
        values = list(criteria.values())
        if classes is not None:
            terms.append(f"class IN ({', '.join('?' * len(classes))})")
            values += classes
        yield from self._lines(" AND ".join(terms) or "1", values, newest_first)

    def faulty(self) -> list[Line]:
        """All that have a fault, oldest first."""
        return list(self._lines("fault IS NOT NULL", [], False))

    def starting_with(self, prefix: str) -> list[Line]:
        """Those whose id does."""
        return list(self._lines("id >= ? AND id < ?", [prefix, prefix + "g"], False))  # digits end with f

    def last(self) -> Line | None:
        """The newest."""
        return next(self._lines("1", [], True), None)

    @property
    def size(self) -> int:
        """Bytes of the file that hold whole records."""
        return self._read_so_far()[0]

    def _read_so_far(self) -> tuple[int, int]:
        assert self._database is not None
        return self._database.execute("SELECT size, mtime_ns FROM read").fetchone() or (0, 0)

    def _lines(self, where: str, values: Sequence[Any], newest_first: bool) -> Iterator[Line]:
        assert self._database is not None
        side, order = ("<", "DESC") if newest_first else (">", "")
        query = f"SELECT number, start, length, id, kind, fault FROM lines WHERE {where} AND number {side} ?"
        edge = 1 << 62 if newest_first else 0
        # A page at a time, each a question of its own: the reader may append meanwhile.
        while rows := self._database.execute(f"{query} ORDER BY number {order} LIMIT 100", [*values, edge]).fetchall():
            yield from (Line(*row) for row in rows)
            edge = rows[-1][0]

    @property
    def _place(self) -> Path:
        return self._path.with_name(self._path.name + ".index")

    def _large(self) -> bool:
        """Whether the index is worth a file. An excerpt's would pass for the ledger's own."""
        return self._keeps and self._path.exists() and self._path.stat().st_size >= LEAST_KEPT_BYTES

    def _open(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._kept = self._large()
        self._database = sqlite3.connect(
            self._place if self._kept else ":memory:",
            timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(SCHEMA)

    def _read_on(self, status: os.stat_result, tell: Callable[[int, int], None]) -> None:
        if self._database is None or self._kept != self._large():
            self._open()
        if self._read_so_far() == (status.st_size, status.st_mtime_ns):
            return
        assert self._database is not None
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._read_lines(status, tell)
        finally:
            # What was read before an unreadable line stays.
            self._database.execute("COMMIT")

    def _read_lines(self, status: os.stat_result, tell: Callable[[int, int], None]) -> None:
        assert self._database is not None
        size, mtime = self._read_so_far()  # another process may have been faster
        if (size, mtime) == (status.st_size, status.st_mtime_ns):
            return
        with open(self._path, "rb") as file:
            last = self.last()
            if size >= status.st_size or (last is not None and not _is_at(file, last)):
                self._database.execute("DELETE FROM lines")
                size, last = 0, None
            number, previous = (last.number, last.id) if last else (0, None)
            start = size
            file.seek(start)
            try:
                for raw in file:
                    found = self._row(raw, number + 1, previous)
                    if found is None and not raw.endswith(b"\n"):
                        break  # torn
                    if found is not None:
                        number, previous = number + 1, found[0]
                        places = ", ".join("?" * (5 + len(COLUMNS)))
                        row = (number, start, len(raw), *found)
                        self._database.execute(f"INSERT INTO lines VALUES ({places})", row)
                    start += len(raw)
                    if number % 1000 == 0:
                        tell(start, status.st_size)
            finally:
                self._database.execute("DELETE FROM read")
                # A torn end is looked at again as soon as the file changes.
                self._database.execute("INSERT INTO read VALUES (?, ?)", (start, status.st_mtime_ns))

    def _row(self, raw: bytes, number: int, previous: str | None) -> tuple[Any, ...] | None:
        """id, fault and COLUMNS of a line; None for a blank one, and for one that has no end and is no whole record."""
        if not raw.strip():
            return None
        try:
            line = json.loads(raw)
            if not isinstance(line, dict):
                raise ValueError("it is no JSON object")
            if not isinstance(line.get("id"), str):
                raise ValueError("it has no id")
            fault = hash_fault(line, raw)
            made = class_of(line)
        except (ValueError, TypeError, RecursionError) as error:
            if not raw.endswith(b"\n"):
                return None
            raise LineUnreadable(number, str(error).splitlines()[0]) from None
        if fault is None and not self._excerpt and line.get("prev") != previous:
            fault = "does not follow the record before it"
        if fault is not None and not raw.endswith(b"\n"):
            return None
        inside = [_inside(line, name, "key") for name in ("device", "software")]
        sets = _inside(line, "workloads", "sha256")
        kernel = _inside(line, "kernel", "sha256")
        known = (line["kind"], made.__name__, line.get("target"), line.get("engine"), kernel, *inside, sets)
        return (_text(line["id"]), fault, *map(_text, known))


def hash_fault(line: Facts, raw: bytes | None = None) -> str | None:
    """What is wrong with a record's own hash, in words. raw: the line as it stands in the file; where that is in the
    form in which the lab writes it, nothing has to be encoded again."""
    given = line.get("id")
    if raw is not None and isinstance(given, str):
        rest = raw.strip().replace(b'"id":"%s",' % given.encode("utf-8", "replace"), b"", 1)
        if hashlib.sha256(rest).hexdigest() == given:
            return None
    rest_of_it = {name: value for name, value in line.items() if name != "id"}
    return None if json_sha256(rest_of_it) == given else "was changed after it was written"


def _inside(line: Facts, name: str, key: str) -> Any:
    value = line.get(name)
    return value.get(key) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    """As the index can hold it."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def _is_at(file: Any, line: Line) -> bool:
    """Whether the file still holds that record there."""
    file.seek(line.start)
    try:
        return json.loads(file.read(line.length)).get("id") == line.id
    except (ValueError, AttributeError, RecursionError):
        return False
