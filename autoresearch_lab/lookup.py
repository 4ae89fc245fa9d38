"""Finds records that are no verdicts: by their ids, and the notes of workspaces, proposals and traces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, takewhile
from typing import Any

from autoresearch_lab.catalog import Kernel
from autoresearch_lab.evidence import newest_here
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.results.note import TrainSettings
from autoresearch_lab.results.record import (
    CLASSES,
    AttemptRecord,
    CaptureRecord,
    DemoteRecord,
    MetalCaptureRecord,
    PromoteRecord,
    Record,
    TraceRecord,
    TrainRecord,
    WorkspaceRecord,
)


def everything(ledger: Ledger, newest_first: bool = False, **criteria: Any) -> Iterator[Record]:
    """All records, also those that do not count, oldest first, for those who show, count or export them. criteria:
    what their fields have to equal."""
    return ledger.each(newest_first, **criteria)


def of_content(ledger: Ledger, kernel: Kernel) -> list[Record]:
    """All records of just this content of a kernel, wherever and whenever they were made, oldest first."""
    return ledger.find(target=kernel.target, kernel_sha256=kernel.sha256)


def by_id(ledger: Ledger, record_id: str) -> Record | None:
    """The record with that id (a unique prefix of at least 8 characters will do)."""
    return ledger.get(record_id)


def newest_id(ledger: Ledger) -> str | None:
    """Of the last record; None where there is none."""
    return ledger.newest_id()


def workspace_note(ledger: Ledger, workspace_id: str) -> WorkspaceRecord | None:
    """The note that a workspace of that id was opened."""
    return next((note for note in ledger.newest(WorkspaceRecord) if note.settings.id == workspace_id), None)


def workspaces(ledger: Ledger) -> list[WorkspaceRecord]:
    """The notes of all workspaces, oldest first."""
    return ledger.find(WorkspaceRecord)


def attempts_in(ledger: Ledger, workspace_id: str) -> list[AttemptRecord]:
    """The notes of the kernels that were proposed in a workspace, oldest first."""
    return [note for note in ledger.find(AttemptRecord) if note.settings.workspace_id == workspace_id]


def verdicts(ledger: Ledger, most: int) -> list[Record]:
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


def promoted_in(ledger: Ledger, transaction: str) -> dict[str | None, Record]:
    """{target: record} of what a promotion or a demotion has written of its records."""
    newest = (ledger.newest(PromoteRecord), ledger.newest(DemoteRecord))  # one transaction after the other
    made = (takewhile(lambda record: record.settings.transaction == transaction, each) for each in newest)
    return {record.target: record for record in chain(*made)}


def named_files(lab: Lab) -> set[str]:
    """Paths of the files that the ledger's records name."""
    return {artifact.path for record in lab.ledger.each() for artifact in record.artifacts or []}
