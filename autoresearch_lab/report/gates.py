"""The gates of an A/B as rows of the page: what was measured, and what was needed."""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch_lab import format as form
from autoresearch_lab.ab.outcome import GATE_TITLES, estimate, gates
from autoresearch_lab.results.ab import GateNumbers
from autoresearch_lab.results.record import AbRecord


@dataclass(frozen=True)
class GateRow:
    """One gate. measured, needed: in its own unit, a ratio, bits per byte or a share of the speed."""

    title: str
    state: str
    measured: str
    needed: str
    note: str


def gate_rows(record: AbRecord) -> list[GateRow]:
    """The gates that were reached, in the order of judging."""
    states = {True: "passed", False: "failed", None: "open"}
    return [
        GateRow(GATE_TITLES.get(name, name), states[gate.passed], _measured(gate), _needed(name, gate), gate.note)
        for name, gate in gates(record).items()
    ]


def _measured(gate: GateNumbers) -> str:
    found = estimate(gate)
    if gate.ratio is not None:
        return form.times_interval(found)
    return form.signed_interval(found, 5) if gate.delta is not None else form.percent_interval(found)


def _needed(name: str, gate: GateNumbers) -> str:
    if name == "speed" and gate.margin is not None:
        return f"lower end above {form.times(gate.margin)}"
    if name in ("neutral", "benefit") and gate.margin is not None:
        return f"upper end below {form.signed(gate.margin)}"
    if name == "divergence" and gate.limit is not None:
        return f"at most {form.times(gate.limit)}"
    if name == "gain" and gate.predicted is not None:
        return f"half of the predicted {form.percent(gate.predicted)}"
    return ""
