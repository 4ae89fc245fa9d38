"""Where the report's data comes from: the machine's own ledger, the evidence that is shipped, the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.selection import promoted
from autoresearch_lab.report.staleness import Now, now, stale_reasons
from autoresearch_lab.report.views import Source
from autoresearch_lab.results.record import Record


@dataclass
class Sources:
    """Everything that is read, once. `remarks` say what could not be read."""

    root: Root
    ledger: Ledger
    context: Context | None
    records: list[Record]
    shipped: list[Record]
    present: Now
    remarks: list[str] = field(default_factory=list)
    _known: dict[str, Source] = field(default_factory=dict)

    def source(self, record: Record, shipped: bool = False) -> Source:
        """The record's identity, with the reasons why it does not count here now."""
        if record.id in self._known:
            return self._known[record.id]
        reasons: tuple[str, ...] | None = tuple(stale_reasons(record, self.present))
        if not reasons and self.context is None:
            reasons = None  # nothing speaks against it, but device and software were not compared
        self._known[record.id] = Source(record.id, record.time, record.kind, reasons, shipped)
        return self._known[record.id]

    @cached_property
    def promoted(self) -> dict[str, Kernel]:
        """Target -> kernel that the trainer really uses here instead of the baseline: promoted, and unchanged since.

        Empty where the device is not known. Promotions that are no longer used are named in `remarks`.
        """
        if self.context is None or not self.present.targets:
            return {}
        entries = registry.in_force(self.root, self.context.engine.name, self.context.device["key"])
        if not entries:
            return {}
        selection = promoted(self.present.targets, self.context, self.root)
        self.remarks.extend(remark for remark in selection.remarks if remark not in self.remarks)
        return {target: kernel for target, kernel in selection.chosen().items() if target in entries}

    def newest(self, kind: str) -> list[Record]:
        """The newest record of that kind for every (target, kernel name), newest first; one that counts goes before."""
        chosen: dict[tuple[str | None, str | None], Record] = {}
        for record in reversed(self.records):
            if record.kind != kind:
                continue
            name = (record.target, record.kernel.name if record.kernel else None)
            held = chosen.get(name)
            if held is None or (not self.source(held).counts and self.source(record).counts):
                chosen[name] = record
        return sorted(chosen.values(), key=lambda record: record.time, reverse=True)


def read_shipped(root: Root) -> tuple[list[Record], list[str]]:
    """(the records that come with the project, remarks on what of them cannot be read)."""
    records: list[Record] = []
    remarks = []
    for path in sorted(root.shipped.glob("*.jsonl")):
        try:
            records += Ledger(path).records()
        except LabError as error:
            remarks.append(f"shipped evidence: {error}")
    return records, remarks


def read(root: Root, ledger: Ledger, context: Context | None) -> Sources:
    """Read it all.

    Raises:
        LedgerCorrupt: the machine's own ledger cannot be read. Shipped evidence and catalogue may fail with a remark.
    """
    remarks: list[str] = []
    try:
        targets: dict[str, Target] = load_catalog(root)
    except LabError as error:
        targets = {}
        remarks.append(f"catalogue: {error}")
    shipped, unread = read_shipped(root)
    remarks += unread
    own = ledger.records()
    known = {record.id for record in own}
    shipped = [record for record in shipped if record.id not in known]
    return Sources(root, ledger, context, own, shipped, now(root, targets, ledger, context), remarks)


def by_kind(records: Iterable[Record]) -> dict[str, int]:
    """Number of records of every kind, in the order in which the kinds first appear."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record.kind] = counts.get(record.kind, 0) + 1
    return counts
