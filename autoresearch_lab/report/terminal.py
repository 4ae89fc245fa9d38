"""Evidence, records and query results on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab import format as form
from autoresearch_lab.report.brief import brief
from autoresearch_lab.report.integrity import Integrity
from autoresearch_lab.report.target import EvidenceRow, TargetEvidence
from autoresearch_lab.results.record import Record

if TYPE_CHECKING:  # it loads DuckDB and PyArrow, which few verbs need
    from autoresearch_lab.report.query import Answer

STYLES = {"good": "bold green", "bad": "bold red", "unsure": "bold yellow", "": "bold"}


def verdict_text(verdict: str | None) -> Text:
    return Text(verdict or form.DASH, style=STYLES[form.tone(verdict)] if verdict else "dim")


def table(*columns: str) -> Table:
    """An empty table in the lab's style; a column name that begins with `>` is aligned right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def add(rows: Table, *cells: str | Text, style: str = "") -> None:
    """Add a row; plain strings are shown as they are (square brackets are intervals here, not markup)."""
    rows.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def print_evidence(console: Console, evidence: TargetEvidence) -> None:
    """One block per kernel, a line per step. Fits 80 columns."""
    console.print(Text.assemble((evidence.target, "bold"), f": {evidence.summary}"))
    for kernel in evidence.kernels:
        console.print()
        about = f"  {kernel.role} {form.short(kernel.sha256, 8) if kernel.sha256 else ''}"
        console.print(
            Text.assemble((kernel.name, "bold"), (about, "dim"), ("  in use" if kernel.in_use else "", "green"))
        )
        if not kernel.found:
            console.print("  no evidence yet", style="dim")
        for item in kernel.found:
            _print_found(console, item)
    for remark in evidence.remarks:
        console.print(f"note: {remark}", style="dim", markup=False)


def _print_found(console: Console, item: EvidenceRow) -> None:
    record = item.source.record
    verdict = verdict_text(record.verdict)
    line = Text.assemble(f"  {record.kind:<8}", verdict, " " * max(1, 11 - len(verdict)), item.summary)
    line.append(f"  {record.time[:10]} {form.short(record.id)}", style="dim")
    if item.state != "counts":
        line.stylize("dim")
    console.print(line)
    if item.state != "counts":
        console.print(f"  {'':<8}{item.state}", style="yellow", markup=False)


def print_answer(console: Console, answer: Answer) -> None:
    rows = table(*answer.columns)
    for row in answer.rows:
        add(rows, *(form.DASH if value is None else str(value) for value in row))
    console.print(rows)
    console.print(f"{len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}", style="dim")


def print_records(console: Console, records: list[Record]) -> None:
    """One line per record, the newest last."""
    for record in records:
        subject = f"{record.target}={record.kernel.name}" if record.kernel else record.target or ""
        verdict = verdict_text(record.verdict)
        head = (f"{record.id[:8]}  {form.moment(record.time)[5:16]}  ", "dim")
        words = "  ".join(filter(None, (subject, brief(record))))
        console.print(Text.assemble(head, f"{record.kind:<8} ", verdict, " " * max(1, 11 - len(verdict)), words))


def print_integrity(console: Console, path: Path, state: Integrity) -> None:
    total = sum(state.counts.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in state.counts.items())
    console.print(f"{path}: {total} records{f' ({kinds})' if kinds else ''}", markup=False)
    for problem in state.problems:
        console.print(Text(f"broken: {problem}", style="bold red"))
    if not state.problems:
        console.print(Text("intact: every record is what was written, in order", style="green"))
    for remark in state.remarks:
        console.print(f"note: {remark}", style="dim", markup=False)
