"""From a line of the ledger to a record, whichever version wrote it.

Schema 2 is what is written today. A line of schema 1 goes through `adapt`, the only place that knows how it differed.
"""

from __future__ import annotations

from pydantic import ValidationError

from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.record import SCHEMA, Record, class_of
from autoresearch_lab.results.verify import CheckResult


def read(line: Facts) -> Record:
    """The record of a line, which keeps the line as it was written.

    Raises:
        ValueError: it is no record of a schema known here (pydantic's ValidationError is one, too).
    """
    schema = line.get("schema")
    if schema == SCHEMA:
        record = class_of(line).model_validate(line)
    elif schema == 1:
        record = _read_schema1(line)
    else:
        raise ValueError(f"schema {schema!r} is not known here; this version reads 1 and {SCHEMA}")
    record._line = dict(line)
    return record


def bare(line: Facts) -> Record:
    """The record without what is typed by kind (`Record.unread`).

    Raises:
        ValueError: not even the rest is that of a record.
    """
    record = Record.model_validate({**line, "settings": None, "results": None, "workloads": None, "seeds": None})
    record._line = dict(line)
    return record


def _read_schema1(line: Facts) -> Record:
    """Settings and results that today's types cannot hold are left out; the line itself must be whole."""
    untyped = bare(line)
    try:
        return class_of(line).model_validate(adapt(line), extra="ignore")
    except (ValidationError, ValueError):
        return untyped


def adapt(line: Facts) -> Facts:
    """A line of schema 1 with the names and places of schema 2; what today's types do not know falls away later."""
    found = {name: value for name, value in line.items() if value is not None or name == "prev"}
    results = found.get("results")
    if line["kind"] == "verify" and isinstance(results, dict):
        found["results"] = {**results, "checks": [_check(row) for row in results.get("checks") or []]}
    return found


def _check(row: Facts) -> Facts:
    """What a check counted lay beside its name; it has a place of its own now."""
    known = CheckResult.model_fields
    details = {name: value for name, value in row.items() if name not in known}
    return {**{name: value for name, value in row.items() if name in known}, "details": details}
