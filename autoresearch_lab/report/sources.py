"""Where the report's data comes from: the machine's own ledger, the evidence that is shipped, the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from autoresearch_lab import lookup
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.selection import promoted
from autoresearch_lab.report.staleness import Today, stale_reasons, today
from autoresearch_lab.report.views import Source
from autoresearch_lab.results.record import R, Record


@dataclass
class Sources:
    """Everything that is read, once. `remarks` say what could not be read."""

    root: Root
    context: Context | None
    records: list[Record]
    shipped: list[Record]
    today: Today
    remarks: list[str] = field(default_factory=list)
    _known: dict[str, Source[Any]] = field(default_factory=dict)

    def source(self, record: R, shipped: bool = False) -> Source[R]:
        """The record with the reasons why it does not count here now."""
        if record.id not in self._known:
            reasons: tuple[str, ...] | None = tuple(stale_reasons(record, self.today))
            if not reasons and self.context is None:
                reasons = None  # nothing speaks against it, but device and software were not compared
            self._known[record.id] = Source(record, reasons, shipped)
        return self._known[record.id]

    def all(self, of: type[R]) -> list[Source[R]]:
        """The machine's own records of that class, newest first."""
        return [self.source(record) for record in reversed(self.records) if isinstance(record, of)]

    def newest(self, of: type[R]) -> list[Source[R]]:
        """The newest of that class for every (target, kernel name), newest first; one that counts goes before."""
        chosen: dict[tuple[str | None, str | None], Source[R]] = {}
        for source in self.all(of):
            name = (source.record.target, source.record.kernel.name if source.record.kernel else None)
            if name not in chosen or (source.counts and not chosen[name].counts):
                chosen[name] = source
        return sorted(chosen.values(), key=lambda source: source.record.time, reverse=True)

    @cached_property
    def promoted(self) -> dict[str, Kernel]:
        """Target -> kernel that the trainer really uses here instead of the baseline: promoted, and unchanged since.

        Empty where the device is not known. Promotions that are no longer used are named in `remarks`.
        """
        targets = self.today.present.targets
        if self.context is None or not targets:
            return {}
        entries = registry.in_force(self.root, self.context.engine.name, self.context.device["key"])
        if not entries:
            return {}
        selection = promoted(targets, self.context, self.root)
        self.remarks.extend(remark for remark in selection.remarks if remark not in self.remarks)
        return {target: kernel for target, kernel in selection.chosen().items() if target in entries}

    @property
    def promoted_contents(self) -> dict[str, str]:
        """Target -> content hash of `promoted`."""
        return {target: kernel.sha256 for target, kernel in self.promoted.items()}


def read_shipped(root: Root) -> tuple[list[Record], list[str]]:
    """(the records that come with the project, remarks on what of them cannot be read)."""
    records: list[Record] = []
    remarks = []
    for path in sorted(root.shipped.glob("*.jsonl")):
        try:
            records += lookup.everything(Ledger(path, excerpt=True))
        except LabError as error:
            remarks.append(f"shipped evidence: {error}")
    return records, remarks


def read(lab: Lab, context: Context | None, target: str | None = None) -> Sources:
    """Read it all, or of the machine's own records those of one target. context: None where no engine runs here, or
    where nothing is to be compared.

    Raises:
        LedgerCorrupt: the machine's own ledger cannot be read. Shipped evidence and catalogue may fail with a remark.
    """
    remarks: list[str] = []
    try:
        targets: dict[str, Target] = load_catalog(lab.root)
    except LabError as error:
        targets = {}
        remarks.append(f"catalogue: {error}")
    shipped, unread = read_shipped(lab.root)
    own = list(lookup.everything(lab.ledger, target=target) if target else lookup.everything(lab.ledger))
    known = {record.id for record in own}
    shipped = [record for record in shipped if record.id not in known]
    return Sources(lab.root, context, own, shipped, today(lab, targets, context), remarks + unread)
