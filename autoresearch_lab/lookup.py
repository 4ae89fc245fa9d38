"""Finds records that are no verdicts: by their ids, and the notes of workspaces, proposals and traces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, dropwhile, islice, takewhile
from typing import Any

from autoresearch_lab.catalog import Kernel
from autoresearch_lab.evidence import newest_here, newest_on_device
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.note import TrainSettings
from autoresearch_lab.results.record import (
    CLASSES,
    AbRecord,
    AttemptRecord,
    BenchRecord,
    CaptureRecord,
    DemoteRecord,
    IdeaRecord,
    MetalCaptureRecord,
    PromoteRecord,
    Record,
    TraceRecord,
    TrainRecord,
    VerifyRecord,
    VersionRecord,
    WorkspaceRecord,
)

# Those with a verdict.
JUDGING = (VerifyRecord, BenchRecord, AbRecord)


def everything(ledger: Ledger, newest_first: bool = False, of: Any = Record, **criteria: Any) -> Iterator[Record]:
    """All records of a class, also those that do not count, oldest first, for those who show, count or export them.
    criteria: what their fields have to equal."""
    return ledger.each(newest_first, of, **criteria)


def kernels(ledger: Ledger, of: Any, **criteria: Any) -> list[tuple[str, str]]:
    """(target, name) of the kernels that have records of a class, those with the newest first."""
    return ledger.kernels(of, **criteria)


def verdicts(ledger: Ledger, kernel: Kernel) -> dict[str, str]:
    """{kind: the newest verdict} on just this content of a kernel, wherever and whenever it was made."""
    found: dict[str, str] = {}
    for of in JUDGING:
        for record in islice(ledger.newest(of, target=kernel.target, kernel_sha256=kernel.sha256), 1):
            found[record.kind] = record.verdict or ""
    return found


def files(ledger: Ledger) -> Iterator[tuple[str, str, str]]:
    """(path, hash, key of the device) of each file that the ledger's records name, in the order of these."""
    return ledger.files()


def by_id(ledger: Ledger, record_id: str) -> Record | None:
    """The record with that id (a unique prefix of at least 8 characters will do)."""
    return ledger.get(record_id)


def unfounded(root: Root, ledger: Ledger) -> list[str]:
    """A line for each kernel that a trainer uses here although the ledger does not have the record that said so: it is
    gone, or was begun anew. What is shipped has its evidence beside it. Raises LabError where one cannot be read."""
    return [
        f"promoted {entry.target}={entry.kernel} rests on record {entry.evidence[:12]}, which is not in {ledger.path}"
        for entry in registry.read(root.promoted_local)
        if entry.evidence is not None and by_id(ledger, entry.evidence) is None
    ]


def newest_id(ledger: Ledger) -> str | None:
    """Of the last record; None where there is none."""
    return ledger.newest_id()


def workspace_note(ledger: Ledger, workspace_id: str) -> WorkspaceRecord | None:
    """The note that a workspace of that id was opened."""
    return next(ledger.newest(WorkspaceRecord, workspace_id=workspace_id), None)


def workspaces_of(ledger: Ledger, target: str, kernel: str) -> Iterator[WorkspaceRecord]:
    """The notes that a workspace was opened whose kernel has that name, newest first."""
    return ledger.newest(WorkspaceRecord, target=target, kernel_name=kernel)


def attempts_in(ledger: Ledger, workspace_id: str) -> list[AttemptRecord]:
    """The notes of the kernels that were proposed in a workspace, oldest first."""
    return ledger.find(AttemptRecord, workspace_id=workspace_id)


def ideas_on(lab: Lab, branch: str) -> list[IdeaRecord]:
    """The notes on ideas of a branch, made on this device, oldest first."""
    here = lab.context
    newest = newest_on_device(lab.ledger, IdeaRecord, here.engine.name, here.device["key"])
    return [record for record in newest if record.settings.branch == branch][::-1]


def newest_verdicts(ledger: Ledger, most: int) -> list[Record]:
    """The newest verdicts, at most so many, the newest last; of kernels, and of whatever else has a verdict."""
    judging = [kind for kind in CLASSES.values() if kind.model_fields["verdict"].annotation is not type(None)]
    # Of each kind by itself, which the index answers without a look at the other records.
    newest = [record for kind in judging for record in [*islice(ledger.newest(kind), most)][::-1]]
    return sorted(newest, key=lambda record: record.time)[-most:]


def traces(ledger: Ledger) -> list[CaptureRecord | MetalCaptureRecord]:
    """The captured traces, oldest first."""
    captured = ledger.each(kind="capture")
    return [record for record in captured if isinstance(record, CaptureRecord | MetalCaptureRecord)]


def trace_profiles(ledger: Ledger) -> list[TraceRecord]:
    """The profiles of traces, oldest first."""
    return ledger.find(TraceRecord)


def closing_run(lab: Lab, asked: TrainSettings) -> TrainRecord | None:
    """The newest note here with just these settings: a campaign's closing run that need not be done again."""
    return next((record for record in newest_here(lab, TrainRecord) if record.settings == asked), None)


def trials(lab: Lab) -> Iterator[VersionRecord]:
    """The trials made on this device with these libraries, newest first; the lab's own code may have changed since."""
    here = lab.context
    for record in newest_on_device(lab.ledger, VersionRecord, here.engine.name, here.device["key"]):
        if libraries(record.software or {}) == libraries(here.software):
            yield record


def libraries(software: Facts) -> Facts:
    """Versions of what a trainer runs with, without the lab's code and the key, which holds that."""
    return {name: version for name, version in software.items() if name not in ("lab", "key")}


def promoted_in(ledger: Ledger, transaction: str) -> dict[str | None, Record]:
    """{target: record} of what a promotion or a demotion has written of its records."""

    def other(record: Record) -> bool:
        return bool(record.settings.transaction != transaction)

    newest = (ledger.newest(PromoteRecord), ledger.newest(DemoteRecord))  # one transaction after the other
    made = (takewhile(lambda record: not other(record), dropwhile(other, each)) for each in newest)
    return {record.target: record for record in chain(*made)}
