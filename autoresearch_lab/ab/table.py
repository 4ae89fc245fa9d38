"""An A/B record on a terminal, within 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.ab.outcome import GATE_TITLES, changes, checked_in_place, gates, mode_speeds, modes, title
from autoresearch_lab.results.ab import AbResults
from autoresearch_lab.results.record import AbRecord

COLOURS = {"PROMOTE": "bold green", "REJECT": "bold red", "UNDECIDED": "bold yellow"}
MARKS = {True: Text("pass", style="green"), False: Text("FAIL", style="red"), None: Text("open", style="yellow")}


def render(record: AbRecord, console: Console) -> None:
    """Verdict and reason, before and after, and the gates that were reached."""
    found, settings = record.results, record.settings
    verdict = Text(record.verdict, style=COLOURS[record.verdict])
    console.print(Text.assemble(verdict, f"  {title(record)} ({settings.preset}, {modes(record)})"))
    console.print(found.reason)
    console.print(_gates(record))
    costs = [*checked_in_place(record), *_memory(found), *_costs(found), *_compiled(found)]
    for line in [*changes(record), *mode_speeds(record), *costs, *found.remarks]:
        console.print(line, style="dim")


def _gates(record: AbRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("gate", no_wrap=True)
    table.add_column("")
    table.add_column("finding")
    for name, gate in gates(record).items():
        table.add_row(GATE_TITLES.get(name, name), MARKS[gate.passed], gate.note)
    return table


def _memory(found: AbResults) -> list[str]:
    peaks = found.peak_memory_mb
    if not peaks.keys() >= {"baseline", "candidate"}:
        return []
    return [f"peak memory {peaks['baseline']:,.0f} → {peaks['candidate']:,.0f} MiB of a training process"]


def _costs(found: AbResults) -> list[str]:
    spent = [(name, found.seconds.get(name)) for name in ("races", "checks", "training", "evaluation")]
    parts = [f"{name} {seconds:.0f} s" for name, seconds in spent if seconds]
    reused = f", {found.reused} results reused" if found.reused else ""
    return [f"look {found.look}: " + ", ".join(parts) + reused] if parts else []


def _compiled(found: AbResults) -> list[str]:
    made = [one for one in found.compile_caches if one.cache["made"]]
    if not found.compile_caches:
        return []
    who = ", ".join(f"{one.process} {one.cache['seconds']:.0f} s" for one in made) or "by none of them"
    return [f"compiled anew: {who}; {len(found.compile_caches) - len(made)} more took compiled code from the cache"]
