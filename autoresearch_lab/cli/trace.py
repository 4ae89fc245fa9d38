"""Verbs `capture`, `trace-profile`, `deep-profile`, `auto-review` and `review-trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.numbers import FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.invocation import program
from autoresearch_lab.paths import output_file
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.trace import capture as steady
from autoresearch_lab.trace import deep, metal
from autoresearch_lab.trace import review as reviews
from autoresearch_lab.trace.profile import WHAT, metadata_path, profile_trace
from autoresearch_lab.trace.schema import load_metadata, save
from autoresearch_lab.trace.table import render, render_counters, render_findings

METAL_STEPS, MOST_METAL_STEPS = 1, 20


@click.option("--output", type=click.Path(path_type=Path), help="PREFIX of the new files; mlx: a new *.gputrace.")
@click.option("--compiled", is_flag=True, help="Trace the compiled graph: no ranges of targets inside. Not mlx.")
@click.option("--tool", type=click.Choice(steady.TOOLS), help="auto: nsys on an NVIDIA GPU, else torch. Not mlx.")
@click.option("--time-budget", type=FiniteRange(min=0, min_open=True), metavar="SECONDS",
              help=f"No traced step begins later [default: {steady.DEFAULT_SECONDS:g}]. Not mlx.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1, max=1000),
              help=f"Steps to trace at most [default: {steady.DEFAULT_STEPS}; mlx: {METAL_STEPS}].")  # fmt: skip
@click.option("--kernels", default="baseline", show_default=True, help="baseline, promoted, or target=kernel,...")
@click.option("--dataset", default="stdlib", show_default=True, help="Prepared dataset to train on.")
@click.option("--preset", help="What to train [default: that of the engine].")
@verb
def capture(session: Session, *, preset: str | None, dataset: str, kernels: str, steps: int | None,
            output: Path | None, **others: Any) -> Outcome:  # fmt: skip
    if session.engine_name == "mlx":
        metal.require_metal()
    train = {"preset": preset or session.lab.engine.default_preset, "dataset_folder": session.lab.root.data(dataset)}
    if session.lab.engine.name == "mlx":
        return _capture_metal(session, train, kernels, steps, output, others)
    return _capture_steady(session, train, kernels, steps, output, **others)


def _capture_metal(
    session: Session,
    train: dict[str, Any],
    kernels: str,
    steps: int | None,
    output: Path | None,
    others: dict[str, Any],
) -> Outcome:
    metal.require_metal()
    for name, value in others.items():
        if value:
            raise LabError(
                f"capture: --{name.replace('_', '-')} is not for --engine mlx, where Metal records whole steps"
            )
    if (steps or METAL_STEPS) > MOST_METAL_STEPS:
        raise LabError(f"capture: --steps {steps}: at most {MOST_METAL_STEPS} with --engine mlx")
    path = metal.new_trace(session.lab.root, output)
    selection = resolve(kernels, load_catalog(session.lab.root), session.lab.context, session.lab.root)
    with progress(session.log) as show:
        record = metal.capture(
            session.lab, **train,
            selection=selection, steps=steps or METAL_STEPS, output=path, on_progress=show,
        )  # fmt: skip
    data = {"record": record.id, **(record.settings or {}), **(record.results or {})}
    megabytes = data["bytes"] / 1e6
    review = f"{program(session.lab.root.path)} review-trace --trace {record.id[:12]}"
    return Outcome(
        data,
        lambda console: console.print(
            f"{path} ({megabytes:.1f} MB): open it in Xcode; ledger {record.id[:12]}\n"
            f"then: {review} --judgement ... --text ... --reviewer ...",
            soft_wrap=True,
        ),
    )


def _capture_steady(
    session: Session, train: dict[str, Any], kernels: str, steps: int | None, output: Path | None,
    *, tool: str | None, compiled: bool, time_budget: float | None,
) -> Outcome:  # fmt: skip
    chosen, remark = steady.choose_tool(tool or "auto", session.lab.engine)
    prefix = steady.new_prefix(session.lab.root, output)
    selection = resolve(kernels, load_catalog(session.lab.root), session.lab.context, session.lab.root)
    for note in filter(None, (remark, *selection.remarks)):
        session.log.print(f"note: {note}")
    request = steady.Request(
        **train, selection=selection, tool=chosen, compiled=compiled,
        steps=steps or steady.DEFAULT_STEPS, seconds=time_budget or steady.DEFAULT_SECONDS,
    )  # fmt: skip
    with progress(session.log) as show:
        found = steady.capture(session.lab, request, prefix, show)
    path = steady.beside(prefix, steady.METADATA)
    megabytes = sum(file.bytes for file in found.files) / 1e6
    return Outcome(
        {**found.plain(), "metadata": str(path)},
        lambda console: console.print(
            f"{path}: {found.steps} steps, {found.tool}, {megabytes:.1f} MB; ledger {found.record[:12]}\n"
            f"then: {program(session.lab.root.path)} trace-profile --metadata {path} --output FILE",
            soft_wrap=True,
        ),
    )


@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--metadata", type=click.Path(path_type=Path), required=True, help="PREFIX.metadata.json of a capture.")
@verb
def trace_profile(session: Session, *, metadata: Path, output: Path) -> Outcome:
    source = metadata_path(metadata, WHAT)
    output = _new_file(output, WHAT)
    result = profile_trace(source, session.lab.ledger)
    save(result, output, WHAT)

    def show(console: Any) -> None:
        render(result, console)
        console.print(f"written to {output}; ledger {(result.id or '')[:12]}", style="dim")

    return Outcome({**result.plain(), "output": str(output)}, show)


@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--workload", metavar="ID", help="Captured call [default: the one that moves the most bytes].")
@click.option("--kernel", required=True, help="Kernel of that target.")
@click.option("--target", required=True, help="Target.")
@verb
def deep_profile(session: Session, *, target: str, kernel: str, workload: str | None, output: Path) -> Outcome:
    program = deep.require(session.lab.engine)
    output = _new_file(output, deep.WHAT)
    subject = find_target(load_catalog(session.lab.root), target)
    chosen = subject.kernel(kernel, session.lab.engine.framework)
    if not chosen.runs_on(session.lab.engine.framework, session.lab.engine.device):
        raise LabError(f"{deep.WHAT}: {target}/{kernel} {chosen.obstacle(session.lab.engine.device)}")
    with progress(session.log) as show:
        record = deep.deep_profile(session.lab, subject, chosen, program, workload, show)
    deep.save(record, output)
    launches = (record.results or {})["launches"]
    data = {"record": record.id, **(record.settings or {}), **(record.results or {}), "output": str(output)}
    return Outcome(data, lambda console: render_counters(launches, console))


@click.option("--metadata", type=click.Path(path_type=Path), help="PREFIX.metadata.json of a capture.")
@click.option("--trace", metavar="ID", help="Ledger id of the trace profile or of its capture, or its beginning.")
@verb
def auto_review(session: Session, *, trace: str | None, metadata: Path | None) -> Outcome:
    if (trace is None) == (metadata is None):
        raise LabError(f"{reviews.AUTO_REVIEW}: give --trace ID or --metadata FILE")
    if metadata is not None:
        trace = load_metadata(metadata_path(metadata, reviews.AUTO_REVIEW), reviews.AUTO_REVIEW).record
    record, found = reviews.auto_review(session.lab.ledger, trace or "")
    data = {"record": record.id, **(record.settings or {}), **(record.results or {})}
    return Outcome(data, lambda console: render_findings(found, console))


@click.option("--reviewer", required=True, help="Who looked at it.")
@click.option("--text", required=True, help="What was found.")
@click.option("--judgement", type=click.Choice(reviews.JUDGEMENTS), required=True)
@click.option("--trace", required=True, metavar="ID", help="Ledger id of the capture, or its beginning.")
@verb
def review_trace(session: Session, *, trace: str, judgement: str, text: str, reviewer: str) -> Outcome:
    record = reviews.review(session.lab, trace, judgement, text, reviewer)
    data = {"record": record.id, **(record.settings or {}), **(record.results or {})}
    return Outcome(data, lambda console: console.print(f"{judgement}: recorded as {record.id[:12]}"))


def _new_file(path: Path, what: str) -> Path:
    """Where JSON is to be written. Raises LabError for a folder, a file that exists, a place that is not writable."""
    path = output_file(path, what)
    if path.exists():
        raise LabError(f"{what}: {path} exists already")
    return path


COMMANDS = {
    "capture": click.command("capture", help="Trace the trainer's steady state: PyTorch, NVIDIA GPU, or Metal.")(
        capture
    ),
    "trace-profile": click.command("trace-profile", help="Attribute a trace's device time to targets.")(trace_profile),
    "deep-profile": click.command("deep-profile", help="Hardware counters of one call (Nsight Compute).")(deep_profile),
    "auto-review": click.command("auto-review", help="What a trace profile says by stated rules.")(auto_review),
    "review-trace": click.command("review-trace", help="Record what a person found in a trace.")(review_trace),
}
