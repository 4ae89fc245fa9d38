"""A record in a few words, for tables."""

from __future__ import annotations

from autoresearch_lab.report import format as form
from autoresearch_lab.report.readers import ab, bench, profile, verify
from autoresearch_lab.report.readers.dig import dig, results, settings, text
from autoresearch_lab.report.views import Source
from autoresearch_lab.results.record import Record


def brief(record: Record) -> str:
    """What the record found, in one short line; empty where its kind says enough."""
    source = Source(record.id, record.time, record.kind)
    if record.kind == "profile":
        found = profile.read(record, source)
        hottest = max(found.targets, key=lambda row: row.total_ms, default=None)
        head = f"{found.preset}: {form.milliseconds(found.step_ms)} ms per step"
        speed = f", {form.number(found.tokens_per_second, 4)} tokens/s" if found.tokens_per_second else ""
        return head + speed + (f", hottest {hottest.target}" if hottest else "")
    if record.kind == "verify":
        return verify.brief(verify.read(record, source))
    if record.kind == "bench":
        decisive = next((speed for speed in bench.read(record, source) if speed.verdict), None)
        return form.times_interval(decisive.ratio) if decisive else text(results(record, "reason"))
    if record.kind == "ab":
        return ab.brief(ab.read(record, source))
    if record.kind == "compile":
        architectures = ", ".join(map(str, settings(record, "arch") or ()))
        return f"{'no problem' if results(record, 'ok') else 'problems'} on {architectures}"
    if record.kind in ("promote", "demote"):
        return text(dig(record.device, "name"))
    return text(settings(record, "event")) or text(settings(record, "preset"))
