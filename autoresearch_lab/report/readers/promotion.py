"""Reader of promote and demote records."""

from __future__ import annotations

from autoresearch_lab.report.readers.dig import dig, results, settings, text
from autoresearch_lab.report.views import Event, Source
from autoresearch_lab.results.record import Record


def read(record: Record, source: Source, in_force: str | None) -> Event:
    """`in_force`: content hash of the kernel that the trainer uses here now for this target; None = the baseline."""
    sha256 = record.kernel.sha256 if record.kernel else ""
    return Event(
        source=source,
        kind=record.kind,
        target=record.target or "",
        kernel=record.kernel.name if record.kernel else "baseline",
        sha256=sha256,
        device=text(dig(record.device, "name")) or text(dig(record.device, "key")),
        evidence=text(settings(record, "evidence")) or None,
        in_force=record.kind == "promote" and bool(sha256) and sha256 == in_force,
        note=_note(record),
    )


def _note(record: Record) -> str:
    """What changed besides: what was replaced, what is used from now on, which list was written."""
    parts = []
    if text(results(record, "previous", "name")):
        parts.append(f"in place of {results(record, 'previous', 'name')}")
    if text(results(record, "now", "name")):
        parts.append(f"now {results(record, 'now', 'name')}")
    if settings(record, "from_workspace") is True:
        parts.append("from a workspace")
    if settings(record, "list") == "shipped":
        parts.append("in the list that ships with the project")
    return ", ".join(parts)
