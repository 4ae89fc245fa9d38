"""An A/B record on a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.results.record import Record

COLOURS = {"PROMOTE": "bold green", "REJECT": "bold red", "UNDECIDED": "bold yellow"}
MARKS = {True: Text("pass", style="green"), False: Text("FAIL", style="red"), None: Text("open", style="yellow")}
TITLES = {
    "environment": "leaves the process as it was",
    "speed": "faster in the trainer",
    "gain": "delivers what bench promised",
    "divergence": "first steps",
    "neutral": "loss at equal tokens",
    "benefit": "loss at equal time",
}


def render(record: Record, console: Console) -> None:
    """Verdict and reason, before and after, and the gates that were reached."""
    found = record.results or {}
    verdict = Text(str(record.verdict), style=COLOURS.get(str(record.verdict), "bold"))
    settings = record.settings or {}
    how = f"{settings.get('preset')}, compiled" if settings.get("compile") else settings.get("preset")
    console.print(Text.assemble(verdict, f"  {label(record)} ({how})"))
    console.print(found.get("reason", ""))
    console.print(_gates(found.get("gates") or {}))
    for line in [*_before_after(found), *_costs(found), *found.get("remarks", [])]:
        console.print(line, style="dim")


def label(record: Record) -> str:
    """target=kernel, joined by + for several."""
    candidate = (record.settings or {}).get("candidate") or {}
    return " + ".join(f"{target}={kernel['name']}" for target, kernel in candidate.items())


def _gates(gates: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("gate", no_wrap=True)
    table.add_column("")
    table.add_column("finding")
    for name, title in TITLES.items():  # in the order of judging; a record's keys are sorted
        if name in gates:
            table.add_row(title, MARKS[gates[name]["passed"]], gates[name]["note"])
    return table


def _before_after(found: Mapping[str, Any]) -> list[str]:
    lines = []
    rates, losses = found.get("tokens_per_second") or {}, found.get("val_bpb") or {}
    if rates.get("baseline") and rates.get("candidate"):
        lines.append(f"tokens/s {rates['baseline']:,.0f} -> {rates['candidate']:,.0f}")
    if losses.get("baseline") is not None and losses.get("candidate") is not None:
        line = f"val_bpb {losses['baseline']:.4f} -> {losses['candidate']:.4f} at equal tokens"
        if losses.get("candidate_equal_time") is not None:
            line += f", {losses['candidate_equal_time']:.4f} at equal time"
        lines.append(line)
    peaks = found.get("peak_memory_mb") or {}
    if peaks.keys() >= {"baseline", "candidate"}:
        lines.append(f"peak memory {peaks['baseline']:,.0f} -> {peaks['candidate']:,.0f} MiB of a training process")
    return lines


def _costs(found: Mapping[str, Any]) -> list[str]:
    seconds = found.get("seconds") or {}
    parts = [f"{name} {seconds[name]:.0f} s" for name in ("races", "training", "evaluation") if seconds.get(name)]
    reused = f", {found['reused']} results reused" if found.get("reused") else ""
    return [f"look {found.get('look')}: " + ", ".join(parts) + reused] if parts else []
