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
import zlib
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
# How long to wait for another process that brings the index up to date, and how much it reads before others may go on.
WAIT_SECONDS, READ_BYTES = 60.0, 128 << 20
# A reader in a hurry does not wait, and leaves it to others to read more than this.
HURRIED_BYTES = 64 << 20
# What records are looked up by.
COLUMNS = (
    "kind", "class", "target", "engine", "kernel_name", "kernel_sha256", "device_key", "software_key",
    "workloads_sha256", "workspace_id",
)  # fmt: skip
# Of a hash an index holds the start, which does as well and is a quarter as long.
START = "substr({name}, 1, 16)"
# What the newest and the number of records are kept for. Workspaces have kernels by the thousand, and these contents.
GROUP = ("class", "target", "kernel_name", "engine", "device_key", "software_key")
# arms: what trained in an A/B, by the hash of its contents. captured: the newest record with calls of a target. files:
# what records name. note, merged: numbers of the newest note that records were taken over, and of the last of these.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, start INTEGER, length INTEGER, id TEXT, fault TEXT,
                                  {", ".join(f"{name} TEXT" for name in COLUMNS)});
CREATE INDEX IF NOT EXISTS by_id ON lines ({START.format(name="id")});
CREATE INDEX IF NOT EXISTS by_content ON lines (target, {START.format(name="kernel_sha256")}, class, number);
CREATE INDEX IF NOT EXISTS by_name ON lines (target, kernel_name, class, number);
CREATE INDEX IF NOT EXISTS by_class ON lines (class, number);
CREATE INDEX IF NOT EXISTS by_workspace ON lines (workspace_id, number) WHERE workspace_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_fault ON lines (number) WHERE fault IS NOT NULL;
CREATE TABLE IF NOT EXISTS groups (kind TEXT, {", ".join(f"{name} TEXT" for name in GROUP)}, newest INTEGER,
                                   count INTEGER, PRIMARY KEY ({", ".join(GROUP)})) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arms (contents TEXT, number INTEGER, PRIMARY KEY (contents, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS captured (engine TEXT, device_key TEXT, preset TEXT, target TEXT, number INTEGER,
                                     PRIMARY KEY (engine, device_key, preset, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT, sha256 TEXT, device_key TEXT,
                                  PRIMARY KEY (path, sha256, device_key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS read (size INTEGER, mtime_ns INTEGER, note INTEGER, merged INTEGER);
"""
TABLES = ("lines", "groups", "arms", "captured", "files")
SHAPE = zlib.crc32(SCHEMA.encode("ascii")) >> 1


class LineUnreadable(ValueError):
    """A line that is no JSON object, or of no kind that is known. number: from 1."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class TooMuchToRead(Exception):
    """For a reader in a hurry."""


Tell = Callable[[int, int], None]


def untold(done: int, size: int) -> None:
    """For who does not want to hear how far it is."""


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
    """The index of one ledger file. excerpt, hurried: see `Ledger`. Raises OSError where the file cannot be read."""

    def __init__(self, path: Path, excerpt: bool, hurried: bool = False) -> None:
        self._path, self._excerpt, self._hurried = path, excerpt, hurried
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        # Whether the index may be a file, and whether the present one is.
        self._keeps, self._kept = not excerpt, False
        self._inode: int | None = None

    def catch_up(self, tell: Tell = untold, look: Callable[[Facts], object] | None = None) -> None:
        """Read what has been appended, or all where the file is another than before. `tell` hears how many bytes of how
        many are read. look: sees every line that is read here and has no fault; what it raises stops at that line.

        Raises:
            LineUnreadable: for the first such line; the index ends before it.
            TooMuchToRead: for a reader in a hurry.
        """
        with self._lock:
            try:
                status = self._path.stat()
            except (FileNotFoundError, NotADirectoryError):
                self.forget()
                self._open()
                return
            try:
                self._read_on(status, tell, look)
            except sqlite3.OperationalError:  # locked for too long, or not to be written here
                self._keeps = False
                self._open()
                self._read_on(status, tell, look)
            except sqlite3.DatabaseError:  # damaged
                self.forget()
                self._read_on(status, tell, look)

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
        """Those that fit, as far as the index knows. criteria: {one of COLUMNS, "id" or "arm": value}; classes: names
        of record classes; sound: without those that have a fault."""
        where, values = _where(criteria, classes)
        yield from self._lines(f"{where} AND fault IS NULL" if sound else where, values, newest_first)

    def kernels(self, criteria: Mapping[str, Any], classes: Sequence[str]) -> list[tuple[str, str]]:
        """(target, name) of the kernels that have such records, those with the newest first. criteria: of GROUP."""
        where, values = _where({name: value or "" for name, value in criteria.items()}, classes)
        query = f"SELECT target, kernel_name FROM groups WHERE {where} AND kernel_name != '' GROUP BY 1, 2"
        return self._asked(f"{query} ORDER BY max(newest) DESC", values)

    def counts(self) -> dict[str, int]:
        """{kind: number of records}, in the order of the first of each."""
        return dict(self._asked("SELECT kind, sum(count) FROM groups GROUP BY kind ORDER BY kind", []))

    def captured(self, engine: str, device_key: str) -> list[Line]:
        """The newest without a fault that captured calls of a target with a preset, oldest first."""
        newest = "number IN (SELECT number FROM captured WHERE engine = ? AND device_key = ?)"
        return list(self._lines(newest, [engine, device_key], False))

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(path, hash, key of the device) of each file that records name."""
        assert self._database is not None
        yield from self._database.execute("SELECT path, sha256, device_key FROM files ORDER BY 1, 2, 3")

    def all_lines(self) -> Iterator[Line]:
        """Oldest first."""
        return self._lines("1", [], False)

    def faulty(self) -> list[Line]:
        """All that have a fault, oldest first."""
        return list(self._lines("fault IS NOT NULL", [], False))

    def starting_with(self, prefix: str) -> list[Line]:
        """Those whose id does."""
        short = prefix[:16]
        among = f"{START.format(name='id')} >= ? AND {START.format(name='id')} < ?"  # digits end with f
        found = self._lines(among, [short, short + "g"], False)
        return [line for line in found if line.id.startswith(prefix)]

    def last(self) -> Line | None:
        """The newest."""
        return next(self._lines("1", [], True), None)

    @property
    def size(self) -> int:
        """Bytes of the file that hold whole records."""
        return self._read_so_far()[0]

    def unfinished_merge(self) -> Line | None:
        """The note that more records follow than there are; None where that is not so."""
        last, (_, _, note, merged) = self.last(), self._read_so_far()
        return next(self._lines("number = ?", [note], False)) if last is not None and merged > last.number else None

    def _read_so_far(self) -> tuple[int, int, int, int]:
        assert self._database is not None
        return self._database.execute("SELECT size, mtime_ns, note, merged FROM read").fetchone() or (0, 0, 0, 0)

    def _lines(self, where: str, values: Sequence[Any], newest_first: bool) -> Iterator[Line]:
        side, order = ("<", "DESC") if newest_first else (">", "")
        query = f"SELECT number, start, length, id, kind, fault FROM lines WHERE {where} AND number {side} ?"
        edge, page = 1 << 62 if newest_first else 0, 8
        # A page at a time, each a question of its own: the reader may append meanwhile.
        while rows := self._asked(f"{query} ORDER BY number {order} LIMIT {page}", [*values, edge]):
            yield from (Line(*row) for row in rows)
            edge, page = rows[-1][0], 1000

    def _asked(self, query: str, values: Sequence[Any]) -> list[Any]:
        assert self._database is not None
        return self._database.execute(query, values).fetchall()

    @property
    def _place(self) -> Path:
        return self._path.with_name(self._path.name + ".index")

    def _large(self) -> bool:
        """Whether the index is worth a file. An excerpt's would pass for the ledger's own."""
        return self._keeps and self._path.exists() and self._path.stat().st_size >= LEAST_KEPT_BYTES

    def _is_there(self) -> bool:
        """Whether the index that is open is the file beside the ledger: another process may have begun a new one, and
        two of them would share SQLite's journal."""
        try:
            return self._place.stat().st_ino == self._inode
        except OSError:
            return False

    def _open(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._kept = self._large()
        self._database = self._connected()
        if self._kept and self._database.execute("PRAGMA user_version").fetchone()[0] not in (0, SHAPE):
            self.forget()  # of another version
            self._database = self._connected()
        self._database.executescript(f"{SCHEMA} PRAGMA user_version = {SHAPE};")

    def _connected(self) -> sqlite3.Connection:
        made = sqlite3.connect(
            self._place if self._kept else ":memory:",
            timeout=1.0 if self._hurried else WAIT_SECONDS, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        self._inode = self._place.stat().st_ino if self._kept else None
        made.execute("PRAGMA synchronous = OFF")
        made.execute("PRAGMA cache_size = -32000")
        return made

    def _read_on(self, status: os.stat_result, tell: Tell, look: Callable[[Facts], object] | None) -> None:
        if self._database is None or self._kept != self._large() or self._kept != self._is_there():
            self._open()
        assert self._database is not None
        more = self._read_so_far()[:2] != (status.st_size, status.st_mtime_ns)
        while more:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                more = self._read_some(status, tell, look)
            finally:
                # What was read before an unreadable line stays.
                self._database.execute("COMMIT")

    def _read_some(self, status: os.stat_result, tell: Tell, look: Callable[[Facts], object] | None) -> bool:
        """Read some of what is new; returns whether there is more."""
        assert self._database is not None
        size, mtime, note, merged = self._read_so_far()  # another process may have been faster
        if (size, mtime) == (status.st_size, status.st_mtime_ns):
            return False
        with open(self._path, "rb") as file:
            last = self.last()
            again = size >= status.st_size or (last is not None and not _is_at(file, last))
            if self._hurried and status.st_size - (0 if again else size) > HURRIED_BYTES:
                raise TooMuchToRead
            if again:
                for name in TABLES:
                    self._database.execute(f"DELETE FROM {name}")
                size, note, merged, last = 0, 0, 0, None
            number, previous = (last.number, last.id) if last else (0, None)
            start, rows = size, _Rows()
            file.seek(start)
            try:
                for raw in file:
                    foreign = number < merged
                    found = self._row(
                        raw, number + 1, previous, look, (lambda known: self._knows(known, rows)) if foreign else None
                    )
                    if found is None and not raw.endswith(b"\n"):
                        break  # torn
                    if found is not None:
                        number, previous = number + 1, found.id
                        rows.add(number, start, len(raw), found)
                        more = _inside(found.line, "results", "records") if found.made == "MergeRecord" else 0
                        if isinstance(more, int) and found.fault is None and not foreign:
                            note, merged = number, number + more
                    start += len(raw)
                    if number % 1000 == 0:
                        tell(start, status.st_size)
                    if start - size > READ_BYTES:
                        return True
            finally:
                rows.write(self._database)
                self._database.execute("DELETE FROM read")
                # A torn end is looked at again as soon as the file changes.
                self._database.execute(
                    "INSERT INTO read VALUES (?, ?, ?, ?)", (start, status.st_mtime_ns, note, merged)
                )
        return False

    def _knows(self, record_id: str, rows: _Rows) -> bool:
        """Whether a record of that id was read before. rows: what is not in the tables yet."""
        return record_id in rows.ids or any(line.id == record_id for line in self.starting_with(record_id))

    def _row(
        self,
        raw: bytes,
        number: int,
        previous: str | None,
        look: Callable[[Facts], object] | None,
        known: Callable[[str], bool] | None,
    ) -> _Found | None:
        """What is kept of a line; None for a blank one, and for one that has no end and is no whole record. known: of a
        line that was taken over from another ledger, which ids came before it here."""
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
            if fault is None and look is not None:
                look(line)
        except (ValueError, TypeError, RecursionError) as error:
            if not raw.endswith(b"\n"):
                return None
            raise LineUnreadable(number, str(error).splitlines()[0]) from None
        before = line.get("prev")
        if fault is None and not self._excerpt and before != previous:
            # A record that was taken over follows what it followed there: the start, or what came here earlier.
            follows = known is not None and (before is None or known(str(before))) and not known(line["id"])
            fault = None if follows else "does not follow the record before it"
        if fault is not None and not raw.endswith(b"\n"):
            return None
        return _Found(line, _text(line["id"]) or "", made.__name__, fault)


@dataclass(frozen=True)
class _Found:
    """A line that was read."""

    line: Facts
    id: str
    made: str
    fault: str | None

    def columns(self) -> dict[str, str | None]:
        """{one of COLUMNS: its value}."""
        line, settings = self.line, "settings"
        workspace = _inside(line, settings, "id") if self.made == "WorkspaceRecord" else None
        values = (
            line["kind"], self.made, line.get("target"), line.get("engine"), _inside(line, "kernel", "name"),
            _inside(line, "kernel", "sha256"), _inside(line, "device", "key"), _inside(line, "software", "key"),
            _inside(line, "workloads", "sha256"), workspace or _inside(line, settings, "workspace_id"),
        )  # fmt: skip
        return dict(zip(COLUMNS, map(_text, values), strict=True))


class _Rows:
    """What is to be written into the tables, for many lines at once."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
        self._groups: dict[tuple[str, ...], tuple[int, int]] = {}
        self.ids: set[str] = set()

    def add(self, number: int, start: int, length: int, found: _Found) -> None:
        known, line = found.columns(), found.line
        self.ids.add(found.id)
        self.of["lines"].append((number, start, length, found.id, found.fault, *known.values()))
        key = (known["kind"] or "", *(known[name] or "" for name in GROUP))
        self._groups[key] = (number, self._groups.get(key, (0, 0))[1] + 1)
        artifacts = line.get("artifacts")
        for item in artifacts if isinstance(artifacts, list) else []:
            if isinstance(item, dict):
                file = (_text(item.get("path")), _text(item.get("sha256")), known["device_key"])
                self.of["files"].append(tuple(value or "" for value in file))
        if found.fault is not None:
            return
        if found.made == "AbRecord":
            self.of["arms"] += [(contents, number) for contents in {*_arms(line)}]
        workloads = line.get("workloads")
        if found.made in ("ProfileRecord", "WorkloadsRecord") and isinstance(workloads, dict):
            about = (known["engine"] or "", known["device_key"] or "", _text(_inside(line, "settings", "preset")) or "")
            self.of["captured"] += [(*about, _text(target), number) for target in workloads]

    def write(self, database: sqlite3.Connection) -> None:
        self.of["groups"] = [(*key, newest, count) for key, (newest, count) in self._groups.items()]
        for name, rows in self.of.items():
            places = ", ".join("?" * len(rows[0])) if rows else ""
            query = f"INSERT OR REPLACE INTO {name} VALUES ({places})"
            if name == "groups":
                query = f"INSERT INTO groups VALUES ({places}) ON CONFLICT DO UPDATE SET newest = excluded.newest, "
                query += "count = count + excluded.count"
            database.executemany(query, rows) if rows else None


def arm_key(contents: Mapping[str, str]) -> str:
    """By what A/Bs are found that trained with {target: content hash}."""
    return json_sha256(dict(contents))


def _arms(line: Facts) -> Iterator[str]:
    """Keys of what the arms of an A/B trained with, see `AbRecord.contents`."""
    found: dict[str, str] = {}
    for arm in ("baseline", "candidate"):
        kernels = _inside(line, "settings", arm)
        for target, kernel in kernels.items() if isinstance(kernels, dict) else ():
            if isinstance(kernel, dict) and isinstance(kernel.get("sha256"), str):
                found[target] = kernel["sha256"]
        yield arm_key(found)


def _where(criteria: Mapping[str, Any], classes: Sequence[str] | None) -> tuple[str, list[Any]]:
    """A condition of SQL, and its values."""
    terms, values = ["1"], []
    for name, value in criteria.items():
        if name == "arm":
            terms.append("number IN (SELECT number FROM arms WHERE contents = ?)")
            values.append(arm_key(value))
        elif value is None:
            terms.append(f"{name} IS NULL")
        else:
            wanted = sorted(value - {None}) if isinstance(value, frozenset) else [value]
            missing = f" OR {name} IS NULL" if isinstance(value, frozenset) and None in value else ""
            if name in ("id", "kernel_sha256"):
                terms.append(f"({START.format(name=name)} IN ({', '.join('?' * len(wanted))}){missing})")
                values += [one[:16] for one in wanted]
                name = f"+{name}"  # else SQLite puts the value into the term before, and finds no index for it
            terms.append(f"({name} IN ({', '.join('?' * len(wanted))}){missing})")
            values += wanted
    if classes is not None:
        terms.append(f"class IN ({', '.join('?' * len(classes))})")
        values += classes
    return " AND ".join(terms), values


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
