"""Verbs `capture` and `review-trace`: a trace of the GPU for Xcode, and what was found in it."""

from __future__ import annotations

from pathlib import Path

import click

from autoresearch_lab import gputrace
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.promote.selection import resolve


@click.option("--output", type=click.Path(path_type=Path), help="New *.gputrace [default: below results].")
@click.option("--steps", type=click.IntRange(min=1, max=20), default=1, show_default=True, help="Steps to record.")
@click.option("--kernels", default="baseline", show_default=True, help="baseline, promoted, or target=kernel,...")
@click.option("--dataset", default="stdlib", show_default=True, help="Prepared dataset to train on.")
@click.option("--preset", help="What to train [default: that of the engine].")
@verb
def capture(
    session: Session, *, preset: str | None, dataset: str, kernels: str, steps: int, output: Path | None
) -> Outcome:
    gputrace.require_metal()
    if session.engine.name != "mlx":
        raise LabError(f"capture is for --engine mlx, not {session.engine.name}")
    path = gputrace.new_trace(session.root, output)
    selection = resolve(kernels, load_catalog(session.root), session.context, session.root)
    with progress(session.log) as show:
        record = gputrace.capture(
            session.context, session.root, session.ledger,
            preset=preset or session.engine.default_preset, dataset_folder=session.root.data(dataset),
            selection=selection, steps=steps, output=path, on_progress=show,
        )  # fmt: skip
    data = {"record": record.id, **(record.settings or {}), **(record.results or {})}
    megabytes = data["bytes"] / 1e6
    return Outcome(
        data,
        lambda console: console.print(
            f"{path} ({megabytes:.1f} MB): open it in Xcode; ledger {record.id[:12]}\n"
            f"then: kernel-lab.py review-trace --trace {record.id[:12]} --judgement ... --text ... --reviewer ..."
        ),
    )


@click.option("--reviewer", required=True, help="Who looked at it.")
@click.option("--text", required=True, help="What was found.")
@click.option("--judgement", type=click.Choice(gputrace.JUDGEMENTS), required=True)
@click.option("--trace", required=True, metavar="ID", help="Ledger id of the capture, or its beginning.")
@verb
def review_trace(session: Session, *, trace: str, judgement: str, text: str, reviewer: str) -> Outcome:
    record = gputrace.review(session.ledger, session.root, trace, judgement, text, reviewer)
    data = {"record": record.id, **(record.settings or {}), **(record.results or {})}
    return Outcome(data, lambda console: console.print(f"{judgement}: recorded as {record.id[:12]}"))


COMMANDS = {
    "capture": click.command("capture", help="Record training steps on an Apple GPU for Xcode.")(capture),
    "review-trace": click.command("review-trace", help="Record what was found in such a trace.")(review_trace),
}
