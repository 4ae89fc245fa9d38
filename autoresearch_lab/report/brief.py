"""A record in a few words, for tables."""

from __future__ import annotations

from autoresearch_lab import format as form
from autoresearch_lab.ab import outcome
from autoresearch_lab.evidence import judged_kernels
from autoresearch_lab.report.views import speed_up
from autoresearch_lab.results.record import (
    AbRecord,
    BenchRecord,
    CompileRecord,
    FitRecord,
    ProfileRecord,
    Record,
    VerifyRecord,
    VersionRecord,
)


def brief(record: Record) -> str:
    """What the record found, in one short line, and what did not hold while it was found; empty where its kind says
    enough."""
    return "; ".join(filter(None, (_found(record), form.not_enforced(record.not_enforced))))


def _found(record: Record) -> str:
    if isinstance(record, ProfileRecord):
        return _profile(record)
    if isinstance(record, VerifyRecord):
        return _verify(record)
    if isinstance(record, BenchRecord):
        ratio = speed_up(record)
        return form.times_interval(ratio) if ratio else record.results.reason
    if isinstance(record, AbRecord):
        return _ab(record)
    if isinstance(record, VersionRecord):
        return f"{record.settings.b.asked} against {record.settings.a.asked}: {record.results.reason}"
    if isinstance(record, FitRecord):
        return record.results.reason
    if isinstance(record, CompileRecord):
        return f"{'no problem' if record.results.ok else 'problems'} on {', '.join(record.settings.arch)}"
    if record.kind in ("promote", "demote"):
        return (record.device or {}).get("name", "")
    return getattr(record.settings, "event", None) or getattr(record.settings, "preset", None) or ""


def subject(record: Record) -> str:
    """The target that it speaks of; of an A/B of several all of them."""
    return record.target or " + ".join(judged_kernels(record))


def failed_check(record: VerifyRecord) -> tuple[str, str]:
    """(name of the first check that failed, why), either empty where nothing is known of it."""
    found = record.results
    failed = next((check for check in found.checks if check.status == "fail"), None)
    return (failed.name, failed.reason or found.reason) if failed else (found.failed_check or "", found.reason)


def _profile(record: ProfileRecord) -> str:
    found = record.results
    hottest = max(found.targets, key=lambda row: row.total_ms, default=None)
    head = f"{found.preset}: {form.milliseconds(found.step_ms)} ms per step"
    speed = f", {form.number(found.tokens_per_second, 4)} tokens/s" if found.tokens_per_second else ""
    return head + speed + (f", hottest {hottest.target}" if hottest else "")


def _verify(record: VerifyRecord) -> str:
    found = record.results
    name, why = failed_check(record)
    if name:
        return f"failed {name}: {why}".rstrip(": ")
    if record.verdict == "FAIL" or not found.checks:
        return found.reason
    passed = sum(check.status == "pass" for check in found.checks)
    error = f", error {form.number(found.error_ratio)} times what is allowed" if found.error_ratio is not None else ""
    return f"{passed} checks{error}"


def _ab(record: AbRecord) -> str:
    parts = []
    if ratio := outcome.speed(record):
        parts.append(f"tokens/s {form.times_interval(ratio)}")
    if delta := outcome.estimate(record.results.gates.get("neutral")):
        parts.append(f"Δ val_bpb {form.signed_interval(delta)}")
    return ", ".join(parts) or record.results.reason
