"""Careful access to the nested data of a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autoresearch_lab.report.views import Estimate
from autoresearch_lab.results.record import Record


def dig(data: Any, *path: str) -> Any:
    """data[path[0]][path[1]]…, or None where a step is missing or is no mapping."""
    for name in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def results(record: Record, *path: str) -> Any:
    return dig(record.results, *path)


def settings(record: Record, *path: str) -> Any:
    return dig(record.settings, *path)


def real(value: Any) -> float | None:
    """A finite number as float; None for everything else (booleans included)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def reals(values: Any) -> list[float]:
    """The finite numbers of a list; empty where it is no list."""
    if not isinstance(values, list | tuple):
        return []
    return [number for value in values if (number := real(value)) is not None]


def first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def mappings(values: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; empty where it is no list."""
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list | tuple) else []


def triple(values: Any, level: float | None = None) -> Estimate | None:
    """[low, point, high], as the lab's intervals are written down, as an Estimate."""
    numbers = reals(values)
    return Estimate(numbers[1], numbers[0], numbers[2], level) if len(numbers) == 3 else None
