"""The calibration's table: on a terminal, and as a page of documentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.calibrate.counting import BROKEN, CONFIDENCE, HELD, Share, TrialCount
from autoresearch_lab.calibrate.plan import AB, BENCH
from autoresearch_lab.calibrate.report import CalibrationReport

COLUMNS = {
    "bench": ("FASTER", "SLOWER", "SAME", "AMBIGUOUS", "FAILED"),
    "verify": ("PASS", "FAIL", "FAILED"),
    "ab": ("PROMOTE", "REJECT", "UNDECIDED", "DISTURBED", "FAILED"),
}
COLOURS = {HELD: "green", BROKEN: "red"}


def render(report: CalibrationReport, console: Console) -> None:
    """Rows, promises, and what is missing."""
    for stage, columns in COLUMNS.items():
        rows = [row for row in report.rows if row.group.stage == stage]
        if not rows:
            continue
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column(stage, no_wrap=True)
        for title in ("trials", *columns, "seconds"):
            table.add_column(title.capitalize() if title.isupper() else title, justify="right")
        for row in rows:
            counts = [str(row.verdicts.get(verdict, 0)) for verdict in columns]
            table.add_row(row.group.label.split(": ", 1)[1], f"{row.done}/{row.planned}", *counts, _seconds(row))
        console.print(table)
        console.print()
    for promise in report.promises:
        colour = COLOURS.get(promise.state, "yellow")
        console.print(Text.assemble((f"{promise.state:6}", colour), f" {promise.text}: {shown(promise.share)}"))
    for text in report.wrong:
        console.print(text, style="dim", markup=False)
    console.print(f"{report.made} trials made in {report.seconds:.0f} s; {report.missing} of the plan are missing.")


def shown(share: Share) -> str:
    """Count and exact interval, as 0/200 = 0.0 % [0.0 %, 1.8 %]."""
    if share.rate is None:
        return "no trials yet"
    low, high = share.interval
    return f"{share.count}/{share.total} = {share.rate:.1%} [{low:.1%}, {high:.1%}]"


def _seconds(row: TrialCount) -> str:
    return "-" if row.mean is None else f"{row.mean:.0f}, worst {row.worst:.0f}"


def markdown(report: CalibrationReport) -> str:
    """The page for docs/."""
    return "\n".join(_page(report)) + "\n"


def _page(report: CalibrationReport) -> Iterator[str]:
    plan, device = report.plan, report.context.device
    yield "# Calibration"
    yield ""
    yield (
        "How often the verdicts are wrong, and how often they find what is there: measured with planted kernels of "
        "known effect on one machine. Written by `kernel-lab calibrate --write`; `docs/statistics.md` says how."
    )
    yield ""
    yield f"- Machine: {_described(device)} (`{device.get('key')}`)."
    software = {name: value for name, value in report.context.software.items() if value and name != "key"}
    yield f"- Software: {_described(software)}; commit {', '.join(report.commits) or 'unknown'}."
    yield f"- Load: {_load(report.load)}."
    yield f"- Preset {plan.preset}, dataset {plan.dataset}. {_conditions(report)}"
    yield f"- {report.missing} of {report.missing + sum(row.done for row in report.rows)} planned trials are missing."
    yield ""
    yield "## The promises"
    yield ""
    yield f"Rates with their exact {CONFIDENCE:.0%} intervals."
    yield ""
    yield "| promise | trials | |"
    yield "|---|---|---|"
    for promise in report.promises:
        yield f"| {promise.text} | {shown(promise.share)} | {promise.state} |"
    for stage, columns in COLUMNS.items():
        rows = [row for row in report.rows if row.group.stage == stage]
        if rows:
            yield ""
            yield from _section(stage, columns, rows)
    if report.work:
        yield ""
        yield from _effects(report)
    if report.wrong:
        yield ""
        yield "## Trials that went wrong"
        yield ""
        yield from (f"- {text}" for text in report.wrong)


def _section(stage: str, columns: tuple[str, ...], rows: list[TrialCount]) -> Iterator[str]:
    yield f"## {'A/B' if stage == AB else stage.capitalize()}"
    yield ""
    yield f"| planted | trials | {' | '.join(columns)} | seconds: mean | worst |"
    yield "|" + "---|" * (len(columns) + 4)
    for row in rows:
        cells = [_cell(row.share(verdict)) for verdict in columns]
        times = ("-", "-") if row.mean is None else (f"{row.mean:.0f}", f"{row.worst:.0f}")
        name = row.group.label.split(": ", 1)[1]
        yield f"| {name} | {row.done}/{row.planned} | {' | '.join(cells)} | {' | '.join(times)} |"


def _cell(share: Share) -> str:
    if share.rate is None:
        return "-"
    low, high = share.interval
    return f"{share.count} ({math.floor(100 * low)}-{math.ceil(100 * high)} %)"


def _effects(report: CalibrationReport) -> Iterator[str]:
    effects = list(report.plan.effects)
    yield "## What was planted, measured by itself"
    yield ""
    yield "How much longer the calls of a training step take with the extra work: 95 % interval over fresh processes."
    yield ""
    yield "| target | " + " | ".join(f"{effect:.0%}" for effect in effects) + " |"
    yield "|" + "---|" * (len(effects) + 1)
    for name, work in report.work.items():
        cells = [_measured(work.measured.get(effect)) for effect in effects]
        yield f"| {name} | {' | '.join(cells)} |"


def _measured(interval: list[float] | None) -> str:
    if interval is None:
        return "-"
    low, point, high = (100 * (value - 1) for value in interval)
    return f"{point:.1f} [{low:.1f}, {high:.1f}]"


def _described(facts: dict[str, Any]) -> str:
    simple = (str, int, float)
    return ", ".join(f"{key} {value}" for key, value in facts.items() if isinstance(value, simple) and key != "key")


def _load(load: dict[str, Any]) -> str:
    parts = []
    if load.get("foreign"):
        found = load["foreign"]
        parts.append(f"other processes used {found['median']:.0%} of the cores (median), {found['worst']:.0%} at most")
    if load.get("average"):
        found = load["average"]
        parts.append(f"load average {found['median']:.1f}, {found['worst']:.1f} at most")
    return "; ".join(parts) or "not measured"


def _conditions(report: CalibrationReport) -> str:
    plan = report.plan
    stages = {row.group.stage for row in report.rows}
    parts = []
    if BENCH in stages:
        library = "with" if plan.library else "without"
        targets = ", ".join(plan.targets)
        parts.append(f"Bench: {plan.bench_seconds:.0f} s budget, {library} the library's kernels, on {targets}.")
    if AB in stages:
        targets = ", ".join(plan.ab_targets)
        parts.append(f"A/B: races of {plan.race_seconds:g} s, {plan.steps} steps, on {targets}.")
    return " ".join(parts)
