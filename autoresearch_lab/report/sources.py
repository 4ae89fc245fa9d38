"""Where the report's data comes from: the machine's own ledger, the evidence that is shipped, the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
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
from autoresearch_lab.results.record import AbRecord, R, Record

# A page with more would say less.
MOST_KERNELS, MOST_ABS = 50, 100


@dataclass
class Sources:
    """Where records are read from, and no more of them than is asked for. `remarks` say what could not be read."""

    lab: Lab
    context: Context | None
    shipped: list[Record]
    today: Today
    remarks: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """All of the machine's own, oldest first."""
        return list(lookup.everything(self.lab.ledger))

    def source(self, record: R, shipped: bool = False) -> Source[R]:
        """The record with the reasons why it does not count here now."""
        reasons = tuple(stale_reasons(record, self.today))
        # Where nothing speaks against it, but device and software were not compared, that is not known.
        return Source(record, reasons if reasons or self.context else None, shipped)

    @property
    def here(self) -> dict[str, str]:
        """As criteria of the ledger: what can count here. Empty where that is not known."""
        return self.context.keys() if self.context else {}

    def all(self, of: Any, most: int | None = None, **criteria: Any) -> list[Source[Any]]:
        """The machine's own records of that class, or of a union of some, newest first, and no more than `most`."""
        records = lookup.everything(self.lab.ledger, newest_first=True, of=of, **criteria)
        return [self.source(record) for record in islice((one for one in records if isinstance(one, of)), most)]

    def newest(self, of: type[R]) -> list[Source[R]]:
        """The newest of that class for every (target, kernel name); one that counts goes before. Kernels that are in
        use come first, then those with the newest records of here, then others, and no more than MOST_KERNELS."""
        known = lookup.kernels(self.lab.ledger, of)
        used = {(target, kernel.name) for target, kernel in self.promoted.items()}
        here = lookup.kernels(self.lab.ledger, of, **self.here)
        names = [*dict.fromkeys([*(name for name in known if name in used), *here, *known])]
        if len(names) > MOST_KERNELS:
            self.remark(f"of {len(names)} kernels with a {of.kind_name()} the {MOST_KERNELS} newest are shown")
        found = [self.newest_of(of, target, name) for target, name in names[:MOST_KERNELS]]
        return [source for source in found if source is not None and isinstance(source.record, of)]

    def newest_of(self, of: Any, target: str, kernel: str) -> Source[Any] | None:
        """The newest of that class of a kernel: of those that count, else of all, also what cannot be read."""
        named = {"target": target, "kernel_name": kernel}
        newest = lookup.everything(self.lab.ledger, newest_first=True, of=of, **named)
        there = self.today.hashes(target, kernel, self.context.engine.framework if self.context else None)
        counting = self.counting(of, **named, kernel_sha256=there)
        return counting or next((self.source(record) for record in newest), None)

    def counting(self, of: Any, **criteria: Any) -> Source[Any] | None:
        """The newest of that class which counts."""
        current = self.today.present.workloads.get(criteria.get("target", ""))
        if current:  # asked of the index, for a target may have records by the thousand with sets from before
            criteria["workloads_sha256"] = current | {None}
        records = lookup.everything(self.lab.ledger, newest_first=True, of=of, **criteria, **self.here)
        return next((source for source in map(self.source, records) if source.counts), None)

    def abs(self) -> list[Source[AbRecord]]:
        """The A/Bs of here, newest first, as far back as a trainer of today can rest on."""
        return self.all(AbRecord, MOST_ABS, **self.here)

    def remark(self, text: str) -> None:
        """Once."""
        if text not in self.remarks:
            self.remarks.append(text)

    @cached_property
    def promoted(self) -> dict[str, Kernel]:
        """Target -> kernel that the trainer really uses here instead of the baseline: promoted, and unchanged since.

        Empty where the device is not known. Promotions that are no longer used are named in `remarks`.
        """
        targets = self.today.present.targets
        if self.context is None or not targets:
            return {}
        entries = registry.in_force(self.lab.root, self.context.engine.name, self.context.device["key"])
        if not entries:
            return {}
        selection = promoted(targets, self.context, self.lab.root)
        for remark in selection.remarks:
            self.remark(remark)
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


def read(lab: Lab, context: Context | None) -> Sources:
    """Everything that records are shown with. context: None where no engine runs here, or where nothing is to be
    compared.

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
    shipped = [record for record in shipped if lookup.by_id(lab.ledger, record.id) is None]
    return Sources(lab, context, shipped, today(lab, targets, context), remarks + unread)
