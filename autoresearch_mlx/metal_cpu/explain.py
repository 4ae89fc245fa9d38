"""Puts the run time's findings into words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoresearch_mlx.metal_cpu.findings import KINDS, Finding, Place
from autoresearch_mlx.metal_cpu.launch import RawFinding
from autoresearch_mlx.metal_cpu.symbols import place, places


def explain(path: Path, raw: Sequence[RawFinding]) -> list[Finding]:
    """Findings of the kernel in shared object `path`, with the lines of its source."""
    lines = places(path, [offset for found in raw for offset in (found.code, found.other_code)])
    merged: dict[tuple[str, Place, Place | None, str], Finding] = {}
    for found in raw:
        kind, fails = KINDS[found.kind]
        at = lines[found.code] if found.code else place(found.line)
        other = lines[found.other_code] if found.other_code else place(found.other_line) if found.other_line else None
        message = _message(kind, found, other)
        # Several instructions may stand for one line of the source.
        key = (kind, at, other, found.name.decode())
        before = merged[key].times if key in merged else 0
        message = merged[key].message if key in merged else message
        merged[key] = Finding(kind, message, at, other, before + found.times, fails)
    return sorted(merged.values(), key=lambda finding: not finding.fails)


def _message(kind: str, found: RawFinding, other: Place | None) -> str:
    who = f"thread {found.thread} of threadgroup {tuple(found.group)}"
    what = f"{found.name.decode()}[{found.index}]"
    if kind == "divergent-barrier":
        return f"{_gathering(found, other)}; a barrier has to be reached by all threads"
    if kind == "divergent-collective":
        return f"{_gathering(found, other)}; only the threads that wait here take part"
    if kind == "inactive-lane":
        return f"{who} reads the value of a lane that takes no part; Metal leaves it undefined"
    if kind in ("out-of-bounds-read", "out-of-bounds-write"):
        return f"{who} {'writes' if kind.endswith('write') else 'reads'} {what}, outside of the array"
    if kind == "gap-read":
        return f"{who} reads {what}, which lies between the elements of the strided array"
    if kind == "uninitialised-read":
        return f"{who} reads {what}, which nobody has written"
    if kind == "never-written":
        return f"{found.waiting} of {found.elsewhere} elements of {found.name.decode()} never written, first {what}"
    if kind == "input-written":
        return f"{who} writes {what}, an input"
    if kind == "stack-overflow":
        return f"{who} has used up its stack: its own arrays are too large"
    if kind == "wild-access":
        return f"{who} {'writes to' if found.writes else 'accesses'} an address that belongs to no buffer"
    return _race(kind, found, other)


def _gathering(found: RawFinding, other: Place | None) -> str:
    text = f"in threadgroup {tuple(found.group)} {found.waiting} threads wait here"
    if found.elsewhere:
        text += f", {found.elsewhere} elsewhere" + (f" ({other})" if other else "")
    if found.finished:
        text += f", {found.finished} have returned"
    return text


def _race(kind: str, found: RawFinding, other: Place | None) -> str:
    def doing(writes: int) -> str:
        return "writes" if writes else "reads"

    group, before = tuple(found.group), tuple(found.other_group)
    theirs = f"thread {found.other_thread}" + ("" if group == before else f" of threadgroup {before}")
    text = (
        f"thread {found.thread} of threadgroup {group} {doing(found.writes)} {found.name.decode()}[{found.index}] that "
        f"{theirs} {doing(found.other_writes)} ({other})"
    )
    if kind == "same-value-write":
        return f"{text}; both write the same value"
    return f"{text}, with nothing between that orders them"
