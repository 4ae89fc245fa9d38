"""What grew and what shrank from one trace to another, per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.schema import SCHEMA, DeviceRow, TraceChange, TraceDifference, TraceSurvey

WHAT = "trace-diff"


class _Row(NamedTuple):
    name: str
    ms: float
    calls: float


def difference(a: TraceSurvey, b: TraceSurvey) -> TraceDifference:
    """Raises LabError where only one of the traces has steps: a step and a whole trace cannot be compared."""
    if a.unit != b.unit:
        without = a if a.unit == "trace" else b
        raise LabError(
            f"{WHAT}: {without.file} has no ranges of steps, the other has: name its steps with --step REGEX"
        )
    remarks = ["one trace each: nothing says how much of a change is chance"]
    if a.unit == "trace":
        remarks.append("neither has ranges of steps: whole traces are compared, however long they are")
    for one in (a, b):
        remarks += [f"{one.file}: {remark}" for remark in one.remarks]
    return TraceDifference(
        schema=SCHEMA, a=a.file, b=b.file, unit=a.unit,
        devices=_changes(*_paired(a.devices, b.devices)),
        ranges=_changes(*([_Row(row.name, row.total_ms, row.calls_per_step) for row in one.ranges] for one in (a, b))),
        kernels=_changes(*([_Row(row.name, row.ms, row.calls_per_step) for row in one.kernels] for one in (a, b))),
        remarks=remarks,
    )  # fmt: skip


def _paired(a: Sequence[DeviceRow], b: Sequence[DeviceRow]) -> tuple[list[_Row], list[_Row]]:
    """By place where there are as many in both: processes have other numbers in every run."""
    rows = [[_Row(one.name, one.step_ms, one.work_per_step) for one in devices] for devices in (a, b)]
    if len(a) == len(b):
        for place, (old, new) in enumerate(zip(*rows, strict=True)):
            name = old.name if old.name == new.name else f"{old.name} → {new.name}"
            rows[0][place], rows[1][place] = old._replace(name=name), new._replace(name=name)
    return rows[0], rows[1]


def _changes(a: Iterable[_Row], b: Iterable[_Row]) -> list[TraceChange]:
    before, after = _by_name(a), _by_name(b)
    found = []
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        found.append(
            TraceChange(
                name=name, a_ms=old and old.ms, b_ms=new and new.ms,
                change_ms=(new.ms if new else 0.0) - (old.ms if old else 0.0),
                a_calls=old and old.calls, b_calls=new and new.calls,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-abs(one.change_ms), one.name))


def _by_name(rows: Iterable[_Row]) -> dict[str, _Row]:
    """A name may be a kernel's and a copy's."""
    found: dict[str, _Row] = {}
    for row in rows:
        known = found.get(row.name)
        found[row.name] = row if known is None else _Row(row.name, known.ms + row.ms, known.calls + row.calls)
    return found
