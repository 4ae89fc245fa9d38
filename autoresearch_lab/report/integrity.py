"""Is the ledger what was written? The chain of hashes, the torn last line, and the files that records name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import lookup
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.artifacts import kept_at
from autoresearch_lab.report.sources import read_shipped
from autoresearch_lab.results.record import Artifact, Record


@dataclass(frozen=True)
class Integrity:
    """`problems` break the evidence; `remarks` do not (files may be cleaned away or written anew)."""

    counts: dict[str, int]
    problems: list[str]
    remarks: list[str]

    def plain(self) -> dict[str, Any]:
        return {"intact": not self.problems, "counts": self.counts, "problems": self.problems, "remarks": self.remarks}


def inspect(lab: Lab, tell: Callable[[int, int], None] = lambda done, size: None) -> Integrity:
    """Check the whole ledger, and the files that records name. `tell` hears how many bytes of how many are read.

    Raises:
        LedgerCorrupt: a line of the ledger cannot be read.
    """
    root, ledger = lab.root, lab.ledger
    ledger.read_again(tell)
    counts: Counter[str] = Counter()

    def records() -> Iterator[Record]:
        for record in lookup.everything(ledger):
            counts[record.kind] += 1
            yield record

    shipped, unread = read_shipped(root)
    remarks = [*_torn(ledger), *_own_artifacts(root, records()), *unread, *_shipped_artifacts(root, shipped)]
    return Integrity(dict(counts), ledger.problems(), remarks)


def _torn(ledger: Ledger) -> list[str]:
    """What is known of records that were cut off while they were being written."""
    remarks, path = [], ledger.path
    if ledger.torn:
        remarks.append("the last line is incomplete (a writer died); the next append sets it aside")
    aside = path.with_name(path.name + ".torn")
    if aside.is_file():
        remarks.append(f"{len(aside.read_bytes().splitlines())} incomplete line(s) were set aside in {aside.name}")
    return remarks


def _own_artifacts(root: Root, records: Iterable[Record]) -> list[str]:
    """Of the machine's own ledger. A shipped copy will do, where the file itself was written anew."""
    named = ((root.path / item.path, item, record) for record in records for item in record.artifacts or ())
    return _files({(item.path, item.sha256): [file, *_copies(root, record, item)] for file, item, record in named}, "")


def _shipped_artifacts(root: Root, records: Iterable[Record]) -> list[str]:
    """Of shipped records, whose files are shipped, too."""
    named = [(item, record) for record in records for item in record.artifacts or ()]
    return _files({(item.path, item.sha256): _copies(root, record, item) for item, record in named}, "shipped ")


def _copies(root: Root, record: Record, artifact: Artifact) -> list[Path]:
    return [kept_at(root, record.device_key, artifact)] if record.device_key else []


def _files(named: dict[tuple[str, str], list[Path]], which: str) -> list[str]:
    """How many files (path and hash: places where each may lie) are missing, or hold something else by now."""
    missing = changed = 0
    for (_, sha256), places in named.items():
        there = [file for file in places if file.is_file()]
        if not there:
            missing += 1
        elif all(file_sha256(file) != sha256 for file in there):
            changed += 1
    whole = len(named) - missing - changed
    if not missing and not changed:
        return []
    return [
        f"of {len(named)} files that {which}records name, {whole} are as recorded, {changed} changed, {missing} missing"
    ]
