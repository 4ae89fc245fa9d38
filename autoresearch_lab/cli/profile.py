"""Verb `profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.paths import output_file
from autoresearch_lab.profile import save, take_profile
from autoresearch_lab.profile.run import DEFAULT_STEPS
from autoresearch_lab.profile.table import render
from autoresearch_lab.promote.selection import resolve


def profile(
    session: Session,
    *,
    preset: str | None,
    top_k: int,
    output: Path,
    steps: int,
    dataset: str,
    data_dir: Path | None,
    kernels: str,
) -> Outcome:
    output = output_file(output, "profile")
    catalog = load_catalog(session.lab.root)
    selection = resolve(kernels, catalog, session.lab.context, session.lab.root)
    for remark in selection.remarks:
        session.log.print(f"note: {remark}")
    with progress(session.log) as show:
        result = take_profile(
            session.lab,
            catalog,
            preset=preset or session.lab.engine.default_preset,
            dataset_folder=(data_dir.expanduser() / dataset) if data_dir else session.lab.root.data(dataset),
            selection=selection,
            steps=steps,
            on_progress=show,
        )
    save(result, output)

    def show_table(console: Console) -> None:
        render(result, top_k, console)
        console.print(f"written to {output}", style="dim")

    data: dict[str, Any] = {**result.plain(), "output": str(output)}
    return Outcome(data, show_table)


_OPTIONS = (
    click.option("--preset", help="What to train [default: that of the engine]."),
    click.option("--top-k", type=click.IntRange(min=1), default=8, show_default=True, help="Rows of the table."),
    click.option(
        "--output", type=click.Path(path_type=Path), default=Path("profile.json"), show_default=True, help="JSON file."
    ),
    click.option(
        "--steps",
        type=click.IntRange(min=4),
        default=DEFAULT_STEPS,
        show_default=True,
        help="Pairs of a plain and an instrumented step to measure.",
    ),
    click.option("--dataset", default="stdlib", show_default=True, help="Prepared dataset to train on."),
    click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the datasets [default: data]."),
    click.option("--kernels", default="baseline", show_default=True, help="baseline, promoted, or target=kernel,..."),
)

_command = verb(profile)
for _option in reversed(_OPTIONS):
    _command = _option(_command)

COMMANDS = {
    "profile": click.command(
        "profile",
        help="Run the real trainer and rank its hot operations by the time that could be saved on this machine.",
    )(_command)
}
