"""Reader of verify records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch_lab.report import format as form
from autoresearch_lab.report.readers.dig import mappings, real, results, text
from autoresearch_lab.report.views import Check, Source, Verification
from autoresearch_lab.results.record import Record

# The record's words for how a check ended, and the report's.
STATUS = {"pass": "pass", "fail": "fail", "not applicable": "na", "skipped": "skip"}


def read(record: Record, source: Source) -> Verification:
    checks = tuple(_check(row) for row in mappings(results(record, "checks")))
    return Verification(
        source=source,
        target=record.target or "",
        kernel=record.kernel.name if record.kernel else "",
        verdict=record.verdict or "",
        checks=checks,
        error_ratio=real(results(record, "error_ratio")),
        reason=text(results(record, "reason")),
    )


def _check(row: Mapping[str, Any]) -> Check:
    return Check(text(row.get("name")), STATUS.get(text(row.get("status")), "skip"), text(row.get("reason")))


def brief(found: Verification) -> str:
    failed = next((check for check in found.checks if check.status == "fail"), None)
    if failed is not None:
        return f"failed {failed.name}: {failed.detail or found.reason}".rstrip(": ")
    if found.verdict == "FAIL":
        return found.reason
    passed = sum(check.status == "pass" for check in found.checks)
    error = f", error {form.number(found.error_ratio)} of what is allowed" if found.error_ratio is not None else ""
    return f"{passed} checks{error}" if found.checks else found.reason
