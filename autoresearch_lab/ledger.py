"""The evidence ledger: append-only JSON lines, locked, fsynced, hash-chained.

A torn last line (the machine died while writing) is set aside and reported, never a reason to fail; a broken line
anywhere else is corruption and is refused, because evidence behind it can no longer be trusted.
"""

from __future__ import annotations

import errno
import io
import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, overload

import jsonlines
from filelock import FileLock, Timeout
from pydantic import BaseModel

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger_index import (
    COLUMNS,
    LedgerIndex,
    Line,
    LineUnreadable,
    Tell,
    TooMuchToRead,
    arm_key,
    hash_fault,
    untold,
)
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.repository import commit_of
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.lines import bare, read
from autoresearch_lab.results.record import (
    CLASSES,
    SCHEMA,
    AbRecord,
    MergeRecord,
    ProfileRecord,
    R,
    Record,
    WorkloadsRecord,
    WorkspaceRecord,
    class_of,
)

# At the gate one looks now and then, since who stands at the lock is busy until then.
LOCK_SECONDS, LOCK_LOOK_SECONDS, GATE_LOOK_SECONDS = 60.0, 0.001, 0.02
TELL_BYTES = 8 << 20
HEAD_BLOCK, MOST_HEAD_BYTES = 512, 1 << 20


class LedgerCorrupt(LabError):
    """A line in the middle of the ledger cannot be read. what: which one and why, in words."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class Head(BaseModel):
    """Where the chain stood after the last append: how many `records` there were, and the id of the `last` one.

    lost: what was missing of an earlier head, in words; it is told until this file is taken away.
    """

    records: int = 0
    last: str = ""
    lost: list[str] = []


class Ledger:
    """Reads and appends the records of one ledger file. Every append takes the file's lock.

    excerpt: it begins with single records of another ledger, whose chain is looked after there. hurried: whoever asks
    does not wait for others, nor until a large file is read; what it cannot know at once is a LabError.
    """

    def __init__(self, path: Path, excerpt: bool = False, hurried: bool = False) -> None:
        # Whoever reaches the file by a link has to take the same lock.
        self._given, self.path = Path(path), Path(os.path.realpath(path))
        self._excerpt = excerpt
        self._index = LedgerIndex(self.path, excerpt, hurried)
        self._seen = False

    def records(self) -> list[Record]:
        """All whole records, oldest first.

        Raises:
            LabError: the file cannot be read.
            LedgerCorrupt: a line other than the last cannot be parsed.
        """
        return list(self.each())

    def each(self, newest_first: bool = False, of: Any = Record, **criteria: Any) -> Iterator[Record]:
        """The same one after the other, those alone of that class whose fields equal `criteria` (see `find`). What
        today's types cannot hold is of the class that it would be.

        Raises:
            LabError, LedgerCorrupt: as `records`.
        """
        for record in self._read(criteria, of, sound=False, newest_first=newest_first):
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
            for path in (self.path, self._lock, self._gate):
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
        with self._appending() as last:
            record = _seal(kind, last.id if last else None, fields)
            self._write([_line(record)])
        return record

    def merge(self, others: Sequence[Ledger], tell: Callable[[str, int, int], None]) -> list[MergeRecord | None]:
        """Take over the records of other ledgers that are not here yet, as they stand there, each ledger's behind a
        note that says where they come from; returns these, None for a ledger that has nothing new but such notes (else
        two would hand each other notes for ever). Records follow each other as they did there: each has the id of the
        one before it there, which is here as well. `tell` hears what is done, and how many bytes of how many.

        Raises:
            LabError, LedgerCorrupt: as `append`; for a ledger that is this one, does not exist, or is not what was
                written, before anything is written here.
        """
        for other in others:
            if other.path == self.path:
                raise LabError(f"ledger: {other.path} is this ledger itself")
            if not other.path.is_file():
                raise LabError(f"ledger: there is no file {other.path}")
            if not other.path.stat().st_size:
                raise LabError(f"ledger: {other.path} is empty: it holds no records")
            try:
                other.read_again(partial(tell, f"read {other.path}"))
            except LedgerCorrupt as error:
                raise LabError(f"ledger: {other.path} is not merged: {error.what}") from None
            if problems := other.problems():
                raise LabError(f"ledger: {other.path} is not merged, it is not what was written: {problems[0]}")
        return [self._take_over(other, partial(tell, f"take over {other.path}")) for other in others]

    def _take_over(self, other: Ledger, tell: Tell) -> MergeRecord | None:
        with self._appending() as last:
            notes = {line.id for line in other._index.lines({}, [MergeRecord.__name__], sound=False, newest_first=True)}
            places, ids, known, new = array("q"), ("", ""), 0, False  # a million objects would take too much memory
            for line in other._index.all_lines():
                if self._index.starting_with(line.id):
                    known += 1
                    continue
                places.extend((line.start, line.length))
                ids, new = (ids[0] or line.id, line.id), new or line.id not in notes
            if not new:
                return None
            done, size = 0, sum(places[1::2])
            results = {"records": len(places) // 2, "known": known, "first": ids[0], "last": ids[1]}
            settings = {"event": "merge", "source": str(other.path)}
            record = _seal(MergeRecord, last.id if last else None, {"settings": settings, "results": results})

            def lines() -> Iterator[bytes]:
                nonlocal done
                yield _line(record)
                with open(other.path, "rb") as file:
                    for start, length in zip(places[::2], places[1::2], strict=True):
                        file.seek(start)
                        yield file.read(length).strip() + b"\n"
                        done += length
                        if done // TELL_BYTES > (done - length) // TELL_BYTES:
                            tell(done, size)

            self._write(lines())
        assert isinstance(record, MergeRecord)
        return record

    @overload
    def find(self, of: type[R], /, **criteria: Any) -> list[R]: ...
    @overload
    def find(self, /, **criteria: Any) -> list[Record]: ...
    def find(self, of: Any = Record, /, **criteria: Any) -> Any:
        """Records of that class whose fields equal `criteria`, oldest first, without those that the lab did not write
        so (`Record.fault`). `kernel_name`, `kernel_sha256`, `device_key`, `software_key`, `workloads_sha256` and
        `workspace_id` look inside; `arm` is {target: content hash} of what trained in an arm of an A/B. A frozenset
        stands for any one of its values; None for what is not there."""
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

    def kernels(self, of: Any, /, **criteria: Any) -> list[tuple[str, str]]:
        """(target, name) of the kernels that have records of that class, those with the newest record first. criteria:
        target, engine, device_key and software_key, as for `find`."""
        self._catch_up()
        return self._index.kernels(criteria, _names(of))

    def captured(self, engine: str, device_key: str) -> list[ProfileRecord | WorkloadsRecord]:
        """The records of that engine and device that captured the calls of a target with a preset last, oldest first;
        where one of them has a fault, all that captured any."""
        self._catch_up()
        found: list[Any] = [*self._records_at(self._index.captured(engine, device_key))]
        if any(record.fault for record in found):
            of: Any = ProfileRecord | WorkloadsRecord
            return self.find(of, engine=engine, device_key=device_key)
        return found

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(path, hash, key of the device) of each file that records name."""
        self._catch_up()
        return self._index.files()

    def counts(self) -> dict[str, int]:
        """{kind: how many whole records there are}."""
        self._catch_up()
        return self._index.counts()

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

    def read_again(self, tell: Tell = untold) -> None:
        """Forget what is known of the file, and read all of it, each record as what it is. `tell` hears how many bytes
        of how many are read."""
        self._index.forget()
        looked = 0

        def look(line: Facts) -> None:
            nonlocal looked
            looked += 1
            read(line)

        self._catch_up(tell, look)
        if looked + len(self._index.faulty()) < self.count():  # another process has read some of it
            for _ in self.each():
                pass

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The file's lock. One waits for it at a time, the others at the gate: so whoever has just written cannot take
        it again before them."""
        until = time.monotonic() + LOCK_SECONDS
        with FileLock(self._gate, timeout=LOCK_SECONDS, poll_interval=GATE_LOOK_SECONDS):
            lock = FileLock(self._lock, timeout=max(0.0, until - time.monotonic()), poll_interval=LOCK_LOOK_SECONDS)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @property
    def _lock(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    @property
    def _gate(self) -> Path:
        return self.path.with_name(self.path.name + ".gate")

    @property
    def _head(self) -> Path:
        return self.path.with_name(self.path.name + ".head")

    def _catch_up(self, tell: Tell = untold, look: Callable[[Facts], object] | None = None) -> None:
        with _told("read", self.path):
            self._seen = self._seen or self.path.exists()
            if self._given.is_symlink() and not self._given.exists():  # of a disk that is not mounted, perhaps
                raise LabError(f"ledger: {self._given} is a link that leads nowhere")
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if self.path.exists() and not self.path.is_file():
                raise LabError(f"ledger: {self.path} is no regular file")
            try:
                self._index.catch_up(tell, look)
            except LineUnreadable as error:
                raise _corrupt(self.path, error.number, error) from None
            except TooMuchToRead:
                raise LabError(
                    f"ledger: {self.path} is large and has no index of what is in it; `kernel-lab ledger` makes it"
                ) from None

    def _last(self) -> Line | None:
        self._catch_up()
        return self._index.last()

    def _read(self, criteria: Mapping[str, Any], of: Any, *, sound: bool, newest_first: bool) -> Iterator[Record]:
        """Records that the index names for `criteria`, as far as it knows them."""
        self._catch_up()
        classes = None if of in (None, Record) else _names(of)
        known = {name: value for name, value in criteria.items() if name in (*COLUMNS, "id", "arm")}
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
        """Where the chain stands now. A record that is in the file counts without it, so a full disk is no failure. In
        place and in one block: a new file in its place would be waited for."""
        last = self._index.last()
        if last is None:
            return
        text = Head(records=last.number, last=last.id, lost=lost).model_dump_json().encode("utf-8")
        with suppress(OSError), open(self._head, "r+b" if self._head.exists() else "wb", buffering=0) as file:
            file.write(text.ljust(HEAD_BLOCK))
            file.truncate()

    def _undo_merge(self) -> None:
        """Take out what a merge that was killed has written. What it would have taken over is where it was."""
        note = self._index.unfinished_merge()
        if note is not None and self._read_head().records < note.number:  # else its end was cut off later
            os.truncate(self.path, note.start)
            self._catch_up()

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

    @contextmanager
    def _appending(self) -> Iterator[Line | None]:
        """The lock, and the last record, behind which lines may be written; afterwards the head is."""
        if self._seen and not self.path.exists():
            raise LabError(f"ledger: {self.path} was deleted while the lab worked; put it back, or begin a new one")
        writable_folder(self.path.parent, "ledger")
        _commit()  # before the lock is taken: it asks git
        try:
            with _told("append to", self.path), self._turn():
                self._last()
                lost = self._lost()
                self._undo_merge()
                self._end_last_line()
                yield self._last()
                self._catch_up()
                self._write_head(lost)
        except Timeout:
            raise LabError(f"ledger: {self.path} has been locked by another process for {LOCK_SECONDS:.0f} s") from None

    def _write(self, lines: Iterable[bytes]) -> None:
        """Append whole lines: all of them, or where that fails none."""
        with open(self.path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                for line in lines:
                    rest = memoryview(line)
                    while rest:
                        rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException:
                os.ftruncate(file.fileno(), size)
                raise


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


def _line(record: Record) -> bytes:
    buffer = io.StringIO()
    with jsonlines.Writer(buffer, dumps=_dumps) as writer:
        writer.write(record.plain())
    return buffer.getvalue().encode("utf-8")


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
            "commit": _commit(),
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


def _names(of: Any) -> list[str]:
    """The names of the record classes that a class, or a union of some, stands for."""
    return sorted(made.__name__ for made in {*CLASSES.values()} if issubclass(made, of))


def _matches(record: Record, criteria: dict[str, Any]) -> bool:
    found = {name: _value(record, name, wanted) for name, wanted in criteria.items()}
    return all(found[name] in w if isinstance(w, frozenset) else found[name] == w for name, w in criteria.items())


def _value(record: Record, name: str, wanted: Any) -> Any:
    """What the record has where `find` looks for that criterion."""
    if name in ("kernel_name", "kernel_sha256"):
        return getattr(record.kernel, name.removeprefix("kernel_"), None)
    if name == "workloads_sha256":
        return getattr(record.workloads, "sha256", None)
    if name == "workspace_id":
        return getattr(record.settings, "id" if isinstance(record, WorkspaceRecord) else name, None)
    if name == "arm":
        arms = [record.contents(arm) for arm in ("baseline", "candidate")] if isinstance(record, AbRecord) else []
        return wanted if any(arm_key(found) == arm_key(wanted) for found in arms) else None
    return getattr(record, name)


@cache
def _commit() -> str | None:
    """Of the code that this process runs."""
    return commit_of(CHECKOUT)


def _corrupt(path: Path, number: int, error: Exception) -> LedgerCorrupt:
    why = str(error).splitlines()[0]
    return LedgerCorrupt(
        f"ledger: line {number} of {path} cannot be read ({why}); nothing was changed. "
        "Restore the line from a copy, or move the file away to start a new ledger",
        f"line {number} cannot be read ({why})",
    )
