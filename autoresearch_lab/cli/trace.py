"""Verbs `capture`, `trace-profile`, `trace-diff`, `deep-profile`, `auto-review` and `review-trace`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from autoresearch_common.files import write_atomic
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, PATH, PRESET, SELECTION, Count, FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.subject import KernelWords, choose, kernel_arguments
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.evidence import default_preset
from autoresearch_lab.invocation import program
from autoresearch_lab.paths import output_file
from autoresearch_lab.promote.selection import Selection, resolve_named
from autoresearch_lab.trace import capture as steady
from autoresearch_lab.trace import deep, metal, perfetto
from autoresearch_lab.trace import review as reviews
from autoresearch_lab.trace.anyones import read_attributed
from autoresearch_lab.trace.difference import WHAT as DIFFERENCE
from autoresearch_lab.trace.difference import difference
from autoresearch_lab.trace.profile import WHAT, metadata_path, profile_trace
from autoresearch_lab.trace.schema import TraceProfile, TraceSurvey, load_metadata, save
from autoresearch_lab.trace.survey import survey
from autoresearch_lab.trace.table import (
    render,
    render_deep,
    render_difference,
    render_findings,
    render_survey,
    survey_page,
)

METAL_STEPS, MOST_METAL_STEPS = 1, 20


def capture(session: Session, *, preset: str | None, dataset: str, kernels: str, **options: Any) -> VerbResult:
    if session.engine_name == "mlx":
        metal.require_metal()
    lab = session.lab
    run = _capture_metal if lab.engine.name == "mlx" else _capture_steady
    return run(session, preset or default_preset(lab), lab.root.data(dataset), kernels, **options)


def _selection(session: Session, kernels: str) -> Selection:
    return resolve_named(kernels, load_catalog(session.lab.root), session.lab.context, session.lab.root)


def _capture_metal(
    session: Session, preset: str, data: Path, kernels: str, *, steps: int | None, output: Path | None, **others: Any
) -> VerbResult:
    metal.require_metal()
    for name, value in others.items():
        if value:
            raise LabError(
                f"capture: --{name.replace('_', '-')} is not for --engine mlx, where Metal records whole steps"
            )
    if (steps or METAL_STEPS) > MOST_METAL_STEPS:
        raise LabError(f"capture: --steps {steps}: at most {MOST_METAL_STEPS} with --engine mlx")
    path = metal.new_trace(session.lab.root, output)
    selection = _selection(session, kernels)
    with progress(session.log, session.verb, session.status) as show:
        record = metal.capture(
            session.lab, preset=preset, dataset_folder=data, selection=selection, steps=steps or METAL_STEPS,
            output=path, on_progress=show,
        )  # fmt: skip
    result = record.details()
    megabytes = record.results.bytes / 1e6
    review = f"{program(session.lab.root.path)} review-trace --trace {record.id[:12]}"
    return VerbResult(
        result,
        lambda console: console.print(
            f"{path} ({megabytes:.1f} MB): open it in Xcode; ledger {record.id[:12]}\n"
            f"then: {review} --judgement ... --text ... --reviewer ...",
            soft_wrap=True,
        ),
    )


def _capture_steady(
    session: Session,
    preset: str,
    data: Path,
    kernels: str,
    *,
    output: Path | None,
    tool: str | None,
    time_budget: float | None,
    **options: Any,
) -> VerbResult:
    chosen, remark = steady.choose_tool(tool or "auto", session.lab.engine)
    prefix = steady.new_prefix(session.lab.root, output)
    selection = _selection(session, kernels)
    for note in filter(None, (remark, *selection.remarks)):
        session.log.print(f"note: {note}")
    # An option that was not given, or is zero, leaves the request's own default.
    given = {name: value for name, value in {**options, "seconds": time_budget}.items() if value}
    request = steady.Request(preset, data, selection, chosen, **given)
    with progress(session.log, session.verb, session.status) as show:
        found = steady.capture(session.lab, request, prefix, show)
    path = steady.beside(prefix, steady.METADATA)
    megabytes = sum(file.bytes for file in found.files) / 1e6
    return VerbResult(
        {**found.plain(), "metadata": str(path)},
        lambda console: console.print(
            f"{path}: {found.steps} steps, {found.tool}, {megabytes:.1f} MB; ledger {found.record[:12]}\n"
            f"then: {program(session.lab.root.path)} trace-profile --metadata {path} --output FILE",
            soft_wrap=True,
        ),
    )


def trace_profile(
    session: Session, *, file: Path | None, metadata: Path | None, output: Path | None, **options: Any
) -> VerbResult:
    if (file is None) == (metadata is None):
        raise LabError(f"{WHAT}: give FILE or --metadata FILE")
    output = None if output is None else _new_file(output, WHAT)
    result: TraceProfile | TraceSurvey
    if file is None or _is_capture(file):
        if any(options.values()):
            options_of_files = "--map, --step, --perfetto and --html"
            raise LabError(f"{WHAT}: {options_of_files} are for the trace's file itself, not its metadata")
        result = profile_trace(metadata_path(metadata or file or Path(), WHAT), session.lab.ledger)
        ending = f"ledger {(result.id or '')[:12]}"
        shown = partial(render, result)
    else:
        result = _survey(file, **options)
        ending = "nothing recorded: the lab did not take this trace"
        shown = partial(render_survey, result)
    if output is not None:
        save(result, output, WHAT)
        ending = f"written to {output}; {ending}"

    def show(console: Any) -> None:
        shown(console)
        console.print(ending, style="dim", markup=False, soft_wrap=True)

    return VerbResult({**result.plain(), **({} if output is None else {"output": str(output)})}, show)


def _is_capture(file: Path) -> bool:
    """Whether it is the metadata of a capture, or the prefix of one."""
    if not file.name or file.is_file():
        return file.name.endswith(steady.METADATA)
    return steady.beside(file, steady.METADATA).is_file()


def _survey(
    file: Path,
    *,
    step: str | None,
    mapping: tuple[str, ...] = (),
    perfetto_file: Path | None = None,
    html: Path | None = None,
) -> TraceSurvey:
    perfetto_file, html = (None if path is None else _new_file(path, WHAT) for path in (perfetto_file, html))
    attributed, tool = read_attributed(file, step, mapping)
    found = survey(attributed, file.name, tool)
    if perfetto_file is not None:
        perfetto.write(attributed, perfetto_file)
    if html is not None:
        with files_at_hand(f"{WHAT}: cannot write {html}"):
            write_atomic(html, survey_page(found))
    return found


def trace_diff(session: Session, *, first: Path, second: Path, step: str | None, output: Path | None) -> VerbResult:
    output = None if output is None else _new_file(output, DIFFERENCE)
    found = difference(_survey(first, step=step), _survey(second, step=step))
    if output is not None:
        save(found, output, DIFFERENCE)
    return VerbResult(found.plain(), partial(render_difference, found))


def deep_profile(session: Session, *, named: list[KernelWords], workload: str | None, output: Path) -> VerbResult:
    program = deep.require(session.lab.engine)
    output = _new_file(output, deep.WHAT)
    chosen = choose(named[0], session)
    with progress(session.log, session.verb, session.status) as show:
        record = deep.deep_profile(session.lab, chosen.target, chosen.kernel, program, workload, show)
    deep.save(record, output)
    data = {**record.details(), "output": str(output)}
    return VerbResult(data, lambda console: render_deep(record, console))


def auto_review(session: Session, *, trace: str | None, metadata: Path | None) -> VerbResult:
    if (trace is None) == (metadata is None):
        raise LabError(f"{reviews.AUTO_REVIEW}: give --trace ID or --metadata FILE")
    if metadata is not None:
        trace = load_metadata(metadata_path(metadata, reviews.AUTO_REVIEW), reviews.AUTO_REVIEW).record
    record = reviews.auto_review(session.lab.ledger, trace or "")
    return VerbResult(record.details(), lambda console: render_findings(record.results.findings, console))


def review_trace(session: Session, *, trace: str, judgement: str, text: str, reviewer: str) -> VerbResult:
    record = reviews.review(session.lab, trace, judgement, text, reviewer)
    return VerbResult(record.details(), lambda console: console.print(f"{judgement}: recorded as {record.id[:12]}"))


def _new_file(path: Path, what: str) -> Path:
    """Where JSON is to be written. Raises LabError for a folder, a file that exists, a place that is not writable."""
    path = output_file(path, what)
    if path.exists():
        raise LabError(f"{what}: {path} exists already")
    return path


_OUTPUT = click.option("--output", type=PATH, required=True, help="JSON file.")
_ALSO = click.option("--output", type=PATH, help="JSON file to write as well.")
_STEP = click.option("--step", metavar="REGEX",
                     help="Ranges that are steps [default: ProfilerStep#N, step, iteration and such].")  # fmt: skip

COMMANDS = {
    "capture": command(
        "capture",
        capture,
        "Trace the trainer's steady state: PyTorch, NVIDIA GPU, or Metal.",
        click.option("--output", type=PATH, help="PREFIX of the new files; mlx: a new *.gputrace."),
        click.option("--compiled", is_flag=True,
                     help="Trace the compiled graph: no ranges of targets inside. Not mlx."),
        click.option("--tool", type=click.Choice(steady.TOOLS),
                     help="auto: nsys on an NVIDIA GPU, else torch. Not mlx."),
        click.option("--time-budget", type=FiniteRange(min=0, min_open=True), metavar="SECONDS",
                     help=f"No traced step begins later [default: {steady.DEFAULT_SECONDS:g}]. Not mlx."),
        click.option("--steps", type=Count(min=1, max=1000),
                     help=f"Steps to trace at most [default: {steady.DEFAULT_STEPS}; mlx: {METAL_STEPS}, and no more "
                     f"than {MOST_METAL_STEPS}]."),
        SELECTION,
        DATASET,
        PRESET,
    ),
    "trace-profile": command(
        "trace-profile",
        trace_profile,
        "Whose the device's time was, in a capture's trace or anyone's.",
        click.argument("file", type=PATH, required=False, metavar="[FILE]"),
        click.option("--metadata", type=PATH, help="PREFIX.metadata.json of a capture, as FILE may be, too."),
        click.option("--map", "mapping", multiple=True, metavar="REGEX=TARGET",
                     help="Kernels whose names the regex finds belong to the target; may be repeated."),
        _STEP,
        click.option("--perfetto", "perfetto_file", type=PATH, metavar="OUT.json.gz",
                     help="Write the steps with their owners as lanes, for Perfetto."),
        click.option("--html", type=PATH, metavar="OUT.html", help="Write what is shown as a page as well."),
        _ALSO,
    ),
    "trace-diff": command(
        "trace-diff",
        trace_diff,
        "What grew and what shrank from trace A to trace B, by device, range and kernel, per step.",
        click.argument("first", type=PATH, metavar="A"),
        click.argument("second", type=PATH, metavar="B"),
        _STEP,
        _ALSO,
    ),
    "deep-profile": command(
        "deep-profile",
        deep_profile,
        "Inside one call: hardware counters of a GPU; a C++ kernel's loops, spills and time by line.",
        kernel_arguments(),
        _OUTPUT,
        click.option("--workload", metavar="ID", help="Captured call [default: the one that moves the most bytes]."),
    ),
    "auto-review": command(
        "auto-review",
        auto_review,
        "What a trace profile says by stated rules.",
        click.option("--metadata", type=PATH, help="PREFIX.metadata.json of a capture."),
        click.option("--trace", metavar="ID",
                     help="Ledger id of the trace profile or of its capture, or its beginning."),
    ),
    "review-trace": command(
        "review-trace",
        review_trace,
        "Record what a person found in a trace.",
        click.option("--reviewer", required=True, help="Who looked at it."),
        click.option("--text", required=True, help="What was found."),
        click.option("--judgement", type=click.Choice(reviews.JUDGEMENTS), required=True),
        click.option("--trace", required=True, metavar="ID", help="Ledger id of the capture, or its beginning."),
    ),
}  # fmt: skip
