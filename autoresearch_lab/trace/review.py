"""Reviews of captured traces: a person's judgement, and findings by rule. Both are records of kind "review"."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record
from autoresearch_lab.trace import metal
from autoresearch_lab.trace.capture import TRACE_EVENT
from autoresearch_lab.trace.rules import LIMITS, Observation, findings
from autoresearch_lab.trace.schema import TraceProfile

JUDGEMENTS = ("as-expected", "problem", "unclear")
AUTO_REVIEW = "auto-review"
REVIEW_TRACE = "review-trace"
_EVENTS = (metal.TRACE_EVENT, TRACE_EVENT)


def review(lab: Lab, trace: str, judgement: str, text: str, reviewer: str) -> Record:
    """Append what a person found in a trace (kind "review"). trace: the id of its capture, or the beginning of one.

    Raises:
        LabError: no such trace, or more than one; it is not what was recorded any more; an empty text.
    """
    if not text.strip() or not reviewer.strip():
        raise LabError(f"{REVIEW_TRACE}: say what was found (--text) and who looked (--reviewer)")
    records = [r for r in lab.ledger.find(kind="capture") if (r.settings or {}).get("event") in _EVENTS]
    subject = _only(records, trace, [r for r in records if r.id.startswith(trace)], REVIEW_TRACE)
    settings = {"event": (subject.settings or {})["event"], "capture": subject.id, **_checked(subject, lab.root)}
    results = {"judgement": judgement, "text": text.strip(), "reviewer": reviewer.strip()}
    return lab.ledger.append("review", **_about(subject), settings=settings, results=results)


def auto_review(ledger: Ledger, trace: str) -> tuple[Record, list[Observation]]:
    """(record of kind "review", its findings) of the newest profile of a trace. trace: the id of the profile's record
    or of its capture, or the beginning of one.

    Raises:
        LabError: there is no profile of such a trace, or of more than one.
    """
    profiles = [r for r in ledger.find(kind="trace") if "capture" in (r.settings or {})]
    fitting = [r for r in profiles if r.id.startswith(trace) or _capture_of(r).startswith(trace)]
    newest = {_capture_of(record): record for record in fitting}
    subject = _only(profiles, trace, list(newest.values()), AUTO_REVIEW, "profiles of traces (trace-profile makes one)")
    plain = {"schema": 1, "id": subject.id, "device": subject.device, **(subject.results or {})}
    try:
        found = findings(TraceProfile.model_validate(plain))
    except ValidationError:
        raise LabError(f"{AUTO_REVIEW}: {subject.id[:12]} is of another version; run trace-profile again") from None
    problems = [finding.text for finding in found if finding.level == "problem"]
    record = ledger.append(
        "review",
        **_about(subject),
        settings={"event": AUTO_REVIEW, "capture": _capture_of(subject), "trace": subject.id, "limits": LIMITS},
        results={
            "judgement": "problem" if problems else "as-expected",
            "text": "; ".join(problems) or "no rule found a problem",
            "reviewer": AUTO_REVIEW,
            "findings": [finding.plain() for finding in found],
        },
    )
    return record, found


def _only(records: list[Record], trace: str, found: list[Record], verb: str, what: str = "traces") -> Record:
    if not trace or len(found) != 1:
        known = ", ".join(record.id[:12] for record in records[-5:]) or "none"
        raise LabError(
            f"{verb}: {len(found) if trace else 0} {what} have an id that begins with '{trace}'; newest: {known}"
        )
    return found[0]


def _checked(subject: Record, root: Root) -> dict[str, str]:
    """The hash of the trace, as the review names it. Raises LabError where the files are not those of the record."""
    results = subject.results or {}
    if (subject.settings or {})["event"] == metal.TRACE_EVENT:
        files = {results["trace"]: results["trace_sha256"]}
    else:
        files = {item.path: item.sha256 for item in subject.artifacts or ()}
    for name, sha256 in files.items():
        path = root.path / name
        if not path.exists():
            raise LabError(f"{REVIEW_TRACE}: {path} is not there any more")
        if _sha256(path) != sha256:
            raise LabError(f"{REVIEW_TRACE}: {path} is not what was recorded")
    return {"trace_sha256": list(files.values())[-1]}


def _sha256(path: Path) -> str:
    return file_sha256(path) if path.is_file() else metal.folder_sha256(path)


def _capture_of(record: Record) -> str:
    return (record.settings or {})["capture"]


def _about(subject: Record) -> dict[str, object]:
    return {"engine": subject.engine, "device": subject.device, "software": subject.software}
