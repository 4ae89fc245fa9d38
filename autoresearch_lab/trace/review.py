"""Reviews of captured traces: a person's judgement, and findings by rule. Both are records of kind "review"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import lookup
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import CaptureRecord, MetalCaptureRecord, R, Record, ReviewRecord
from autoresearch_lab.results.trace import ReviewResults, ReviewSettings
from autoresearch_lab.trace import metal
from autoresearch_lab.trace.rules import LIMITS, findings

JUDGEMENTS = ("as-expected", "problem", "unclear")
AUTO_REVIEW = "auto-review"
REVIEW_TRACE = "review-trace"


def review(lab: Lab, trace: str, judgement: str, text: str, reviewer: str) -> ReviewRecord:
    """Append what a person found in a trace (kind "review"). trace: the id of its capture, or the beginning of one.

    Raises:
        LabError: no such trace, or more than one; it is not what was recorded any more; an empty text.
    """
    if not text.strip() or not reviewer.strip():
        raise LabError(f"{REVIEW_TRACE}: say what was found (--text) and who looked (--reviewer)")
    records = lookup.traces(lab.ledger)
    subject = _only(records, trace, [r for r in records if r.id.startswith(trace)], REVIEW_TRACE)
    return lab.ledger.append(
        ReviewRecord,
        **_about(subject),
        settings=ReviewSettings(
            event=subject.settings.event, capture=subject.id, trace_sha256=_checked(subject, lab.root)
        ),
        results=ReviewResults(judgement=judgement, text=text.strip(), reviewer=reviewer.strip()),
    )


def auto_review(ledger: Ledger, trace: str) -> ReviewRecord:
    """Append what the rules find in the newest profile of a trace. trace: the id of the profile's record or of its
    capture, or the beginning of one.

    Raises:
        LabError: there is no profile of such a trace, or of more than one.
    """
    profiles = lookup.trace_profiles(ledger)
    fitting = [r for r in profiles if r.id.startswith(trace) or r.settings.capture.startswith(trace)]
    newest = {record.settings.capture: record for record in fitting}
    subject = _only(profiles, trace, list(newest.values()), AUTO_REVIEW, "profiles of traces (trace-profile makes one)")
    found = findings(subject.results, on_gpu=(subject.device or {}).get("kind") == "cuda")
    problems = [finding.text for finding in found if finding.level == "problem"]
    return ledger.append(
        ReviewRecord,
        **_about(subject),
        settings=ReviewSettings(event="auto-review", capture=subject.settings.capture, trace=subject.id, limits=LIMITS),
        results=ReviewResults(
            judgement="problem" if problems else "as-expected",
            text="; ".join(problems) or "no rule found a problem",
            reviewer=AUTO_REVIEW,
            findings=found,
        ),
    )


def _only(records: Sequence[R], trace: str, found: Sequence[R], verb: str, what: str = "traces") -> R:
    if not trace or len(found) != 1:
        known = ", ".join(record.id[:12] for record in records[-5:]) or "none"
        raise LabError(
            f"{verb}: {len(found) if trace else 0} {what} have an id that begins with '{trace}'; newest: {known}"
        )
    return found[0]


def _checked(subject: CaptureRecord | MetalCaptureRecord, root: Root) -> str:
    """The hash of the trace, as the review names it. Raises LabError where the files are not those of the record."""
    if isinstance(subject, MetalCaptureRecord):
        files = {subject.results.trace: subject.results.trace_sha256}
    else:
        files = {item.path: item.sha256 for item in subject.artifacts or ()}
    for name, sha256 in files.items():
        path = root.path / name
        if not path.exists():
            raise LabError(f"{REVIEW_TRACE}: {path} is not there any more")
        if _sha256(path) != sha256:
            raise LabError(f"{REVIEW_TRACE}: {path} is not what was recorded")
    return list(files.values())[-1]


def _sha256(path: Path) -> str:
    return file_sha256(path) if path.is_file() else metal.folder_sha256(path)


def _about(subject: Record) -> dict[str, object]:
    return {"engine": subject.engine, "device": subject.device, "software": subject.software}
