"""Reader of bench records."""

from __future__ import annotations

from typing import Any

from autoresearch_lab.report.readers.dig import dig, mappings, real, reals, results, text
from autoresearch_lab.report.views import Estimate, Source, Speed
from autoresearch_lab.results.record import Record

DIRECTIONS = ("both", "forward", "backward")


def read(record: Record, source: Source) -> list[Speed]:
    """The candidate in every direction that was timed, the one that decides first; then the library's kernels."""
    kernel = record.kernel.name if record.kernel else ""
    level = real(results(record, "level"))
    decisive = text(results(record, "direction")) or "both"
    floor = real(results(record, "floor"))
    ratio = estimate(results(record), "ratio", "interval", level)
    directions = results(record, "directions")
    found: list[Speed] = []

    def add(name: str, arm: str, direction: str, value: Estimate | None, row: Any) -> None:
        if value is None:
            return
        decides = arm == "candidate" and direction == decisive
        found.append(
            Speed(
                source=source,
                target=record.target or "",
                kernel=name,
                arm=arm,
                direction=direction,
                ratio=value,
                decisive=direction == decisive,
                floor=floor - 1 if floor is not None and decides else None,
                baseline_ms=real(dig(row, "baseline_ms")),
                arm_ms=real(dig(row, "candidate_ms")),
                verdict=record.verdict if decides else None,
            )
        )

    # The deciding interval is the record's own; the ones per direction are shown only.
    add(kernel, "candidate", decisive, ratio, dig(directions, decisive))
    for direction in DIRECTIONS:
        row = dig(directions, direction)
        if direction != decisive:
            add(kernel, "candidate", direction, estimate(row, "ratio", "interval", level), row)
    for row in mappings(results(record, "libraries")):
        value = estimate(row, "baseline_ratio", "baseline_interval", level)
        add(text(row.get("name")), "library", decisive, value, None)
    return found


def estimate(data: Any, value: str, ends: str, level: float | None) -> Estimate | None:
    """data[value] with the interval data[ends] = [low, high]."""
    point = real(dig(data, value))
    if point is None:
        return None
    pair = reals(dig(data, ends))
    low, high = pair if len(pair) == 2 else (None, None)
    return Estimate(point, low, high, level)
