"""Is the ledger what was written? The chain of hashes, the torn last line, and the files that records name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import lookup
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.ledger_index import Tell
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.artifacts import kept_at
from autoresearch_lab.report.sources import read_shipped
from autoresearch_lab.results.record import Artifact, Record

# How many are hashed where nobody asked for it.
MOST_FILES = 1000


@dataclass(frozen=True)
class Integrity:
    """`problems` break the evidence; `remarks` do not (files may be cleaned away or written anew)."""

    counts: dict[str, int]
    problems: list[str]
    remarks: list[str]

    def plain(self) -> dict[str, Any]:
        return {"intact": not self.problems, "counts": self.counts, "problems": self.problems, "remarks": self.remarks}


def inspect(lab: Lab, tell: Tell | None = None) -> Integrity:
    """Check the ledger, and the files that records name. tell: hears how many bytes of how many are read, all of the
    ledger and of the files; without it of a large ledger only what is new is looked at, and files as far as MOST_FILES.

    Raises:
        LedgerCorrupt: a line of the ledger cannot be read.
        LabError: the list of promoted kernels cannot be read.
    """
    root, ledger = lab.root, lab.ledger
    if tell is not None:
        ledger.read_again(tell)
    shipped, unread = read_shipped(root)
    own = _own_artifacts(lab, None if tell else MOST_FILES)
    remarks = [*_torn(ledger), *own, *unread, *_shipped_artifacts(root, shipped)]
    return Integrity(ledger.counts(), ledger.problems() + lookup.unfounded(root, ledger), remarks)


def _torn(ledger: Ledger) -> list[str]:
    """What is known of records that were cut off while they were being written."""
    remarks, path = [], ledger.path
    if ledger.torn:
        remarks.append("the last line is incomplete (a writer died); the next append sets it aside")
    aside = path.with_name(path.name + ".torn")
    if aside.is_file():
        remarks.append(f"{len(aside.read_bytes().splitlines())} incomplete line(s) were set aside in {aside.name}")
    return remarks


def _own_artifacts(lab: Lab, most: int | None) -> list[str]:
    """Of the machine's own ledger. A shipped copy will do, where the file itself was written anew."""
    if most is not None and len([*islice(lookup.files(lab.ledger), most + 1)]) > most:
        return [f"more than {most} files are named by records; `kernel-lab ledger` compares them"]

    def named() -> Iterator[tuple[str, list[Path]]]:
        for (path, sha256), rows in groupby(lookup.files(lab.ledger), key=lambda row: row[:2]):
            item = Artifact.model_construct(path=path, sha256=sha256)
            yield sha256, [lab.root.path / path, *(kept_at(lab.root, key, item) for _, _, key in rows if key)]

    return _files(named(), "")


def _shipped_artifacts(root: Root, records: Iterable[Record]) -> list[str]:
    """Of shipped records, whose files are shipped, too."""
    named: dict[tuple[str, str], list[Path]] = {}
    for record in records:
        for item in record.artifacts or ():
            kept = [kept_at(root, record.device_key, item)] if record.device_key else []
            named[item.path, item.sha256] = kept
    return _files(((sha256, places) for (_, sha256), places in named.items()), "shipped ")


def _files(named: Iterable[tuple[str, list[Path]]], which: str) -> list[str]:
    """How many files (hash, and places where each may lie) are missing, or hold something else by now."""
    total = missing = changed = 0
    for sha256, places in named:
        total += 1
        there = [file for file in places if file.is_file()]
        if not there:
            missing += 1
        elif all(file_sha256(file) != sha256 for file in there):
            changed += 1
    whole = total - missing - changed
    if not missing and not changed:
        return []
    return [f"of {total} files that {which}records name, {whole} are as recorded, {changed} changed, {missing} missing"]
