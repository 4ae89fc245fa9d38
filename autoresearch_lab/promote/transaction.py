"""What promote, demote and their --ship write, as one: kernel files, lists of promotions, records, shipped evidence.

1. A journal says what is to be done. The new files are written beside their places, under hidden names.
2. The records enter the ledger. Before the first of them nothing has happened; from it on everything has.
3. Shipped evidence is written, the files take their places, the journal goes.

A process that is killed leaves the journal, and whoever comes next does the rest of 2 and 3 where a record is there,
else takes 1 back. What is taken back is only removed, and what is finished mostly renamed, so a full disk is no
obstacle. All of it, the reading of the lists included, is done under one lock.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field

from autoresearch_common.files import regular_file
from autoresearch_lab import jsonfile, lookup
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.promote import shipping
from autoresearch_lab.promote.artifacts import from_folder
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.record import Record

SCHEMA = 1
JOURNAL = "promotion.json"
LOCK_SECONDS = 30.0


class Move(StrictModel):
    """hidden: the file that takes the place; null: the file at the place goes."""

    place: str
    hidden: str | None


class Journal(StrictModel):
    """id: its records carry it too. records: their fields and kind. ship: with --ship, ids of the evidence that is
    shipped with them."""

    schema_: int = Field(SCHEMA, alias="schema")
    id: str
    records: list[Facts]
    moves: list[Move]
    ship: list[str] | None = None

    def __str__(self) -> str:
        named = [f"{record['target']}={(record['kernel'] or {}).get('name', '?')}" for record in self.records]
        return f"{self.records[0]['kind']} of {', '.join(named)}"


@dataclass(frozen=True)
class Change:
    """What is to be done. records: each the fields of one, kind and target included, and settings that can carry the
    transaction. files: {path: its content from now on; None: it goes}, in the order in which they change. ship: with
    --ship, the evidence that the records rest on."""

    records: Sequence[Facts]
    files: Mapping[Path, str | bytes | None]
    ship: Sequence[Record] | None = None


@contextmanager
def alone(lab: Lab) -> Iterator[None]:
    """Hold the lock of the lists, with nothing half done.

    Raises:
        LabError: another process holds it too long, or what a killed one left cannot be ended.
    """
    writable_folder(lab.root.results, "promotion")
    with _locked(lab.root, LOCK_SECONDS):
        _settle(lab)
        yield


def settle(lab: Lab) -> str | None:
    """End what a killed process left half done; what became of it, in a line. One that lives is not disturbed.

    Raises:
        LabError: it cannot be ended.
    """
    if not _journal(lab.root).exists():
        return None
    try:
        with _locked(lab.root, 0):
            return _settle(lab)
    except Timeout:
        return None


def perform(change: Change, lab: Lab) -> list[Record]:
    """Do it, or nothing of it; returns the records. The caller is `alone`.

    Raises:
        LabError: a file or the ledger cannot be written. If a record is in the ledger by then, the next verb that needs
            the lists does the rest.
    """
    transaction = secrets.token_hex(6)
    places = {regular_file(path): content for path, content in change.files.items()}
    hidden = {place: place.with_name(f".{place.name}.{transaction}") for place in places}
    journal = Journal(
        schema=SCHEMA,
        id=transaction,
        records=[
            {**fields, "settings": {**fields["settings"], "transaction": transaction}} for fields in change.records
        ],
        moves=[
            Move(place=str(place), hidden=None if content is None else str(hidden[place]))
            for place, content in places.items()
        ],
        ship=None if change.ship is None else [record.id for record in change.ship],
    )
    try:
        jsonfile.save(journal.plain(), _journal(lab.root), "promotion")
        for place, content in places.items():
            if content is not None:
                _write(hidden[place], content)
        return _finish(journal, lab)
    except BaseException:
        with suppress(LabError):  # the first error is the one that tells why; the next verb tries again
            _end(journal, lab)
        raise


def _settle(lab: Lab) -> str | None:
    path = _journal(lab.root)
    if not path.exists():
        return None
    advice = "; remove it, and check the lists"
    journal = jsonfile.load(Journal, path, "promotion", SCHEMA, named="a journal of promotions", advice=advice)
    return f"{journal} was broken off: {_end(journal, lab)}"


def _end(journal: Journal, lab: Lab) -> str:
    if lookup.promoted_in(lab.ledger, journal.id):
        _finish(journal, lab)
        return "it stands in the ledger, so the rest was done now"
    with files_at_hand(f"promotion: cannot take back {journal}"):
        for move in journal.moves:
            if move.hidden is not None:
                Path(move.hidden).unlink(missing_ok=True)
        _journal(lab.root).unlink(missing_ok=True)
    return "nothing of it was done"


def _finish(journal: Journal, lab: Lab) -> list[Record]:
    """What is left to do from the records on."""
    known = lookup.promoted_in(lab.ledger, journal.id)
    records = [known.get(fields["target"]) or lab.ledger.append(**fields) for fields in journal.records]
    with files_at_hand("promotion: cannot write"):
        if journal.ship is not None:
            evidence = [lookup.by_id(lab.ledger, record_id) for record_id in journal.ship]
            device_key = str(records[0].device_key)
            shipping.add(lab.root, device_key, [*evidence, *records], [from_folder(lab.root)])
        for move in journal.moves:
            if move.hidden is None:
                Path(move.place).unlink(missing_ok=True)
            elif Path(move.hidden).exists():  # else it has its place already
                os.replace(move.hidden, move.place)
        _journal(lab.root).unlink()
    return records


def _write(path: Path, content: str | bytes) -> None:
    with files_at_hand(f"promotion: cannot write {path}"), open(path, "xb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def _journal(root: Root) -> Path:
    return root.results / JOURNAL


@contextmanager
def _locked(root: Root, seconds: float) -> Iterator[None]:
    """Raises LabError where another process holds the lock too long; Timeout, at once, where `seconds` is 0."""
    lock = FileLock(root.results / f"{JOURNAL}.lock")
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        if not seconds:
            raise
        raise LabError(f"the lists in {root.kernels} are locked by another process for {seconds:.0f} s") from None
    except OSError as error:
        raise LabError(f"promotion: cannot lock {lock.lock_file}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
