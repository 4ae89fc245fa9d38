"""Verb `run`: a campaign, from data to report, by the plan for this kind of machine; and `mac`, its plan for a Mac."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.ab.outcome import gain, speed
from autoresearch_lab.bench.rule import BUDGET_SECONDS
from autoresearch_lab.campaign.cpu import MainJob
from autoresearch_lab.campaign.gpu.plan import CALLS, GpuRequest, default_out, run_parts
from autoresearch_lab.campaign.gpu.table import table
from autoresearch_lab.campaign.mac import mac_steps, require_metal
from autoresearch_lab.campaign.record import Campaign
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, PATH, PRESET, Count, FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.engine import choose
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import default_preset
from autoresearch_lab.hardware import has_apple_gpu

_STYLES = {"done": "green", "negative": "yellow", "failed": "bold red", "skipped": "yellow"}
# Plan -> the options that mean something to it, besides --dataset and --seconds.
_MEANT = {
    "cpu": {"preset", "top_k", "most_finalists", "train_seconds"},
    "mac": {"preset", "bench_seconds"},
    "gpu": {"out", "parts", "only", "rehearse"},
}


def run(session: Session, *, plan: str | None, seconds: float | None, dataset: str, **options: Any) -> VerbResult:
    given = {name: value for name, value in options.items() if value not in (None, False)}
    plan = plan or _suited(session)
    if unmeant := sorted(set(given) - _MEANT[plan]):
        raise LabError(f"run: --{unmeant[0].replace('_', '-')} is not for --plan {plan}")
    say = partial(session.say, head="== ")
    return _PLANS[plan](session, say, seconds, dataset, given)


def _suited(session: Session) -> str:
    """The plan for the engine: what only a GPU can show where there is one."""
    engine = session.lab.engine.name
    return "mac" if engine == "mlx" and has_apple_gpu() else "gpu" if engine == "cuda" else "cpu"


def _cpu(session: Session, say: Callable[[str], None], seconds: float | None, dataset: str, given: Any) -> VerbResult:
    from autoresearch_lab.report.summary import summary  # not at the top: a machine with a GPU may have no DuckDB

    preset = given.pop("preset", None) or default_preset(session.lab)
    job = MainJob(session.lab, preset, dataset, say, **given)
    job.check()
    with progress(session.log, session.verb, session.status) as show:
        job.on_progress, job.status = show, session.status
        end = Campaign.of(session.lab, "cpu", preset, dataset, say, seconds).run(job.steps())
    shown = summary(session.lab, session.lab.context)
    ends = {label: state.reason for label, state in job.states.items()}
    closing = job.closing

    def render(console: Console) -> None:
        for label, reason in ends.items():
            console.print(f"  {label}: {reason}", soft_wrap=True)
        shown.render(console)
        if closing is not None:
            console.print(
                Text.assemble(
                    ("  closing run", "dim"),
                    f"  {job.train_seconds:g} s of training with the promoted kernels: "
                    f"{closing.tokens_per_second:,.0f} tokens/s, {closing.num_steps} steps, "
                    f"val_bpb {closing.val_bpb:.4f}",
                )
            )
        for step in end.steps:
            if step.state in ("failed", "skipped"):
                console.print(f"  {step.step}: {step.state}: {step.reason}", soft_wrap=True)
        if shown.story is not None and shown.story.settings.compile == "auto" and (gained := speed(shown.story)):
            console.print(f"python train.py --preset {preset}: {gain(gained)} tokens/s", style="bold", soft_wrap=True)

    result = {**shown.plain(), "candidates": ends, "closing_run": closing and closing.model_dump()}
    comparison = job.comparison
    through = all(step.state == "done" for step in end.steps)
    return VerbResult(result, render, through and (comparison is None or comparison.verdict == "PROMOTE"))


def _mac(session: Session, say: Callable[[str], None], seconds: float | None, dataset: str, given: Any) -> VerbResult:
    require_metal()
    if session.engine_name not in ("auto", "mlx"):
        raise LabError(f"mac is for --engine mlx, not {session.engine_name}")
    engine = choose("mlx")
    lab = session.lab.on(engine)
    preset, bench_seconds = given.get("preset") or default_preset(lab), given.get("bench_seconds") or BUDGET_SECONDS
    steps = mac_steps(lab, load_catalog(lab.root), preset, dataset, bench_seconds)
    campaign = Campaign.of(lab, "mac", preset, dataset, say, seconds)
    end = campaign.run(steps)

    def render(console: Console) -> None:
        rows = Table(box=None, pad_edge=False)
        for column in ("step", "", "exit code"):
            rows.add_column(column)
        for step in end.steps:
            code = "-" if step.exit_code is None else str(step.exit_code)
            rows.add_row(step.step, Text(step.state, style=_STYLES[step.state]), code)
        console.print(rows)
        noted = f"; ledger {campaign.record[:12]}" if campaign.record else ""
        console.print(f"report: {lab.root.results / 'report.html'}{noted}", style="dim")

    data = {"record": campaign.record, "preset": preset, "dataset": dataset, "bench_seconds": bench_seconds}
    data["steps"] = [step.model_dump(exclude={"found"}) for step in end.steps]
    return VerbResult(data, render, positive=all(step.came_through for step in end.steps))


def _gpu(session: Session, say: Callable[[str], None], seconds: float | None, dataset: str, given: Any) -> VerbResult:
    request = GpuRequest(
        out=given.get("out") or default_out(),
        seconds=seconds,
        names=_words(given.get("parts")),
        only=_words(given.get("only")),
        dataset=dataset,
        rehearse=given.get("rehearse", False),
    )
    result = run_parts(session.lab.root, request, say)
    return VerbResult(
        result.model_dump(mode="json", by_alias=True),
        lambda console: console.print(table(result), markup=False, highlight=False, soft_wrap=True),
    )


def _words(text: str | None) -> tuple[str, ...] | None:
    return tuple(text.split(",")) if text else None


_PLANS = {"cpu": _cpu, "mac": _mac, "gpu": _gpu}
_BENCH_SECONDS = click.option(
    "--bench-seconds", type=FiniteRange(min=1), help=f"mac: per kernel  [default: {BUDGET_SECONDS:g}]"
)
_SECONDS = click.option(
    "--seconds",
    type=FiniteRange(min=1),
    help="Of the whole: steps are cut short or left out.  [default: as long as it takes; gpu: "
    f"{', '.join(f'{seconds:g} for --parts {name}' for name, (_, seconds) in CALLS.items())}]",
)


def mac(session: Session, **options: Any) -> VerbResult:
    return run(session, plan="mac", **options)


COMMANDS = {
    "run": command(
        "run",
        run,
        "Everything in one go: data, profile, orchestrate, train again, report.",
        click.option(
            "--plan",
            type=click.Choice(list(_PLANS)),
            help="cpu: any machine, from data to report; mac: all that takes an Apple GPU; gpu: all that takes an "
            "NVIDIA GPU.  [default: what suits the engine]",
        ),
        _SECONDS,
        PRESET,
        DATASET,
        click.option("--top-k", type=Count(min=1), help="cpu: targets with kernels to consider  [default: 8]"),
        click.option(
            "--most-finalists",
            type=Count(min=1),
            help="cpu: winners of the benchmark that enter the trainer one by one, where all of them together are not "
            "promoted; the largest predicted gain first  [default: 3]",
        ),
        click.option("--train-seconds", type=FiniteRange(min=1), help="cpu: of the closing run  [default: 20]"),
        _BENCH_SECONDS,
        click.option("--out", type=PATH, help="gpu: folder of the result  [default: $OUT, or new]"),
        click.option(
            "--parts",
            metavar="PART,...",
            help="gpu: parts to do, or those of a call: first, second  [default: all]",
        ),
        click.option("--only", metavar="TARGET,...", help="gpu: targets  [default: all with a Triton kernel]"),
        click.option("--rehearse", is_flag=True, hidden=True, help="gpu: the same path on a CPU, small; no figures."),
    ),
    "mac": command(
        "mac",
        mac,
        "Produce all evidence that takes an Apple GPU: run --plan mac.",
        _SECONDS,
        _BENCH_SECONDS,
        DATASET,
        PRESET,
    ),
}
