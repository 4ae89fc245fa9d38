"""Verb `profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, PATH, PRESET, SELECTION, Count
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.evidence import default_preset
from autoresearch_lab.paths import output_file
from autoresearch_lab.profile import save, take_profile
from autoresearch_lab.profile.run import DEFAULT_STEPS
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.profile.table import render
from autoresearch_lab.promote.selection import resolve_named
from autoresearch_trainer.jobs import Report


def profile(session: Session, *, preset: str | None, top_k: int, output: Path, **options: Any) -> VerbResult:
    output = output_file(output, "profile")
    with progress(session.log, session.verb, session.status) as show:
        result = _take(session, show, preset=preset or default_preset(session.lab), **options)
    save(result, output)

    def show_table(console: Console) -> None:
        render(result, top_k, console)
        console.print(f"written to {output}", style="dim")

    return VerbResult({**result.plain(), "output": str(output)}, show_table)


def _take(
    session: Session, show: Report, *, preset: str, dataset: str, data_dir: Path | None, kernels: str, steps: int
) -> Profile:
    catalog = load_catalog(session.lab.root)
    selection = resolve_named(kernels, catalog, session.lab.context, session.lab.root)
    folder = (data_dir.expanduser() / dataset) if data_dir else session.lab.root.data(dataset)
    return take_profile(
        session.lab, catalog, preset=preset, dataset_folder=folder, selection=selection, steps=steps, on_progress=show
    )


COMMANDS = {
    "profile": command(
        "profile",
        profile,
        "Run the real trainer and rank its hot operations by the time that could be saved on this machine.",
        PRESET,
        click.option("--top-k", type=Count(min=1), default=8, show_default=True, help="Rows of the table."),
        click.option("--output", type=PATH, default=Path("profile.json"), show_default=True, help="JSON file."),
        click.option(
            "--steps",
            type=Count(min=4),
            default=DEFAULT_STEPS,
            show_default=True,
            help="Pairs of a plain and an instrumented step to measure.",
        ),
        DATASET,
        click.option(
            "--data-dir",
            type=PATH,
            is_eager=True,
            help="Folder of the datasets [default: $AUTORESEARCH_DATA, else data].",
        ),
        SELECTION,
    )
}
