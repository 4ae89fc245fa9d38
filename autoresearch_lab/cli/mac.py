"""Verb `mac`: everything that only an Apple GPU can show, in one go."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, verb
from autoresearch_lab.cli.options import FiniteRange
from autoresearch_lab.engine import choose
from autoresearch_lab.errors import LabError
from autoresearch_lab.mac import metal_kernels, plan, record, require_metal, run

_STYLES = {"ok": "green", "negative": "yellow", "failed": "bold red"}


@click.option("--bench-seconds", type=FiniteRange(min=1), default=30.0, show_default=True)
@click.option("--dataset", default="stdlib", show_default=True, help="Corpus to prepare and train on.")
@click.option("--preset", help="What to profile and train [default: what suits this Mac].")
@verb
def mac(session: Session, *, preset: str | None, dataset: str, bench_seconds: float) -> VerbResult:
    require_metal()
    if session.engine_name not in ("auto", "mlx"):
        raise LabError(f"mac is for --engine mlx, not {session.engine_name}")
    engine = choose("mlx")
    chosen = preset or engine.default_preset
    steps = plan(metal_kernels(load_catalog(session.lab.root)), session.lab.root, chosen, dataset, bench_seconds)
    done = run(steps, session.log.print)
    settings = {"preset": chosen, "dataset": dataset, "bench_seconds": bench_seconds}
    note = record(done, session.lab.on(engine), settings)

    def render(console: Console) -> None:
        table = Table(box=None, pad_edge=False)
        for column in ("step", "", "exit code"):
            table.add_column(column)
        for step in done:
            table.add_row(step.name, f"[{_STYLES[step.state]}]{step.state}[/]", str(step.exit_code))
        console.print(table)
        console.print(f"report: {session.lab.root.results / 'report.html'}; ledger {note.id[:12]}", style="dim")

    data = {"record": note.id, **settings, "steps": [asdict(step) for step in done]}
    return VerbResult(data, render, positive=all(step.state != "failed" for step in done))


COMMANDS = {"mac": click.command("mac", help="Produce all evidence that takes an Apple GPU.")(mac)}
