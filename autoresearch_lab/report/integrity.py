"""Is the ledger what was written? The chain of hashes, the torn last line, and the files that records name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_data.hashing import file_sha256
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.report.sources import by_kind


@dataclass(frozen=True)
class Integrity:
    """`problems` break the evidence; `remarks` do not (files may be cleaned away or written anew)."""

    counts: dict[str, int]
    problems: list[str]
    remarks: list[str]

    def plain(self) -> dict[str, Any]:
        return {"intact": not self.problems, "counts": self.counts, "problems": self.problems, "remarks": self.remarks}


def inspect(root: Root, ledger: Ledger) -> Integrity:
    """Check the whole ledger.

    Raises:
        LedgerCorrupt: a line cannot be read.
    """
    return Integrity(by_kind(ledger.records()), ledger.problems(), [*_torn(ledger.path), *_artifacts(root, ledger)])


def _torn(path: Path) -> list[str]:
    """What is known of records that were cut off while they were being written."""
    remarks = []
    if path.is_file():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            remarks.append("the last line is incomplete (a writer died); the next append sets it aside")
    aside = path.with_name(path.name + ".torn")
    if aside.is_file():
        remarks.append(f"{len(aside.read_bytes().splitlines())} incomplete line(s) were set aside in {aside.name}")
    return remarks


def _artifacts(root: Root, ledger: Ledger) -> list[str]:
    """How many of the files that records name are missing, or hold something else by now."""
    named = {(item.path, item.sha256) for record in ledger.records() for item in record.artifacts or ()}
    missing = changed = 0
    for path, sha256 in named:
        file = root.path / path
        if not file.is_file():
            missing += 1
        elif file_sha256(file) != sha256:
            changed += 1
    whole = len(named) - missing - changed
    if not missing and not changed:
        return []
    return [f"of {len(named)} files that records name, {whole} are as recorded, {changed} changed, {missing} missing"]
