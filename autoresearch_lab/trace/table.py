"""A trace profile, findings, and what is inside one call, on a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.format import DASH, MINUS, number, share
from autoresearch_lab.profile.table import milliseconds
from autoresearch_lab.results.record import CountersRecord, MachineCodeRecord
from autoresearch_lab.results.trace import MachineCodeResults
from autoresearch_lab.trace.rules import ReviewFinding
from autoresearch_lab.trace.schema import OwnerRow, TraceDifference, TraceProfile, TraceSurvey
from autoresearch_lab.trace.timeline import MOVES

KERNELS, SURVEYED, PAGE_COLUMNS = 8, 12, 120
STYLES = {"problem": "bold yellow", "suggestion": "bold", "note": "dim"}


def render(profile: TraceProfile, console: Console) -> None:
    """Print the targets, the rest, and the busiest kernels. Fits 80 columns."""
    name = profile.device.get("name", profile.engine)
    mode = "compiled" if profile.compiled else "uncompiled"
    console.print(
        Text.assemble(
            (profile.preset, "bold"),
            f", {mode}, on {name}: {profile.steps} traced steps of {profile.step_ms:.1f} ms,\n"
            f"device at work {profile.busy_ms:.1f} ms, idle {share(profile.idle_share)}\n",
        )
    )
    rows = _table(("target", "left"), ("share", "right"), ("fwd", "right"), ("bwd", "right"), ("opt", "right"),
                  ("calls", "right"), ("launches", "right"))  # fmt: skip
    for row in profile.targets:
        times = (milliseconds(ms) for ms in (row.forward_ms, row.backward_ms, row.optimizer_ms))
        rows.add_row(row.target, share(row.share), *times, f"{row.calls_per_step:g}", f"{row.launches_per_step:g}")
    times = (milliseconds(profile.unattributed_phases[phase]) for phase in ("forward", "backward", "optimizer"))
    rows.add_row("outside the targets", share(profile.unattributed_share), *times, style="dim")
    console.print(rows)
    console.print()
    kernels = _table(("busiest", "left"), ("share", "right"), ("ms", "right"), ("calls", "right"), ("under", "left"))
    for kernel in profile.kernels[:KERNELS]:
        under = kernel.under[0] if kernel.under else ""
        cells = (share(kernel.share), milliseconds(kernel.ms), f"{kernel.calls_per_step:g}", under)
        kernels.add_row(Text(_short(kernel.name)), *cells)
    console.print(kernels)
    console.print()
    phases = ", ".join(f"{phase} {milliseconds(ms)}" for phase, ms in profile.phases.items() if ms)
    console.print(f"ms of device time per step; by phase: {phases}.", style="dim")
    for remark in profile.remarks:
        console.print(f"note: {remark}", style="dim", markup=False)


def render_survey(survey: TraceSurvey, console: Console) -> None:
    """Print what a trace shows that anyone may have taken. Fits 80 columns."""
    of = f"{survey.steps} steps" if survey.unit == "step" else "the whole trace"
    tool = {"nsys": "Nsight Systems", "torch": "PyTorch's profiler"}[survey.tool]
    version = f" ({survey.tool_version})" if survey.tool_version else ""
    console.print(Text.assemble((survey.file, "bold"), f": {tool}{version}, {of}"), soft_wrap=True)
    console.print()
    rows = _table(("device", "left"), ("step", "right"), ("busy", "right"), ("idle", "right"), ("host-bound", "right"),
                  ("copies", "right"), ("pieces", "right"), ("launches", "right"))  # fmt: skip
    for device in survey.devices:
        copies = sum(device.kinds.get(kind, 0.0) for kind in MOVES)
        bound = DASH if device.host_bound_share is None else share(device.host_bound_share)
        times = (milliseconds(ms) for ms in (device.step_ms, device.busy_ms))
        counts = (number(count) for count in (device.work_per_step, device.launches_per_step))
        rows.add_row(_short(device.name, 22), *times, share(device.idle_share), bound, milliseconds(copies), *counts)
    console.print(rows)
    for device in survey.devices:
        if device.gaps:
            gap = device.gaps[0]
            console.print(
                f"{device.name}: longest gap {milliseconds(gap.ms)} ms, before {_short(gap.before, 40)}",
                style="dim", markup=False, soft_wrap=True,
            )  # fmt: skip
    for title, owners in (("target", survey.targets), ("range", survey.ranges)):
        if owners:
            console.print()
            console.print(_owners(title, owners))
    console.print()
    kernels = _table(("busiest", "left"), ("share", "right"), ("ms", "right"), ("calls", "right"), ("under", "left"))
    for kernel in survey.kernels[:SURVEYED]:
        cells = (share(kernel.share), milliseconds(kernel.ms), number(kernel.calls_per_step))
        kernels.add_row(Text(_short(kernel.name)), *cells, Text(_short(kernel.under[0], 20) if kernel.under else ""))
    console.print(kernels)
    console.print()
    console.print(f"ms of device time per {survey.unit}; self: without the ranges inside.", style="dim")
    for remark in survey.remarks:
        console.print(f"note: {remark}", style="dim", markup=False)


def survey_page(survey: TraceSurvey) -> str:
    """The same as one self-contained HTML page."""
    page = Console(file=io.StringIO(), record=True, markup=False, emoji=False, highlight=False, width=PAGE_COLUMNS)
    render_survey(survey, page)
    return page.export_html()


def _owners(title: str, owners: Sequence[OwnerRow]) -> Table:
    rows = _table((title, "left"), ("share", "right"), ("fwd", "right"), ("bwd", "right"), ("total", "right"),
                  ("host", "right"), ("calls", "right"))  # fmt: skip
    for row in owners[:SURVEYED]:
        times = (milliseconds(ms) for ms in (row.forward_ms, row.backward_ms, row.total_ms, row.host_ms))
        rows.add_row(Text(_short(row.name)), share(row.share), *times, number(row.calls_per_step))
    return rows


def render_difference(difference: TraceDifference, console: Console) -> None:
    """Print what grew and what shrank, the largest change first. Fits 80 columns."""
    console.print(Text(f"A  {difference.a}\nB  {difference.b}"), soft_wrap=True)
    for title, changes in (
        ("device", difference.devices), ("range", difference.ranges), ("kernel", difference.kernels)
    ):  # fmt: skip
        shown = [one for one in changes if one.change_ms][:SURVEYED]
        if not shown:
            continue
        console.print()
        rows = _table((title, "left"), ("A", "right"), ("B", "right"), ("change", "right"), ("calls A", "right"),
                      ("B", "right"))  # fmt: skip
        for one in shown:
            times = (DASH if ms is None else milliseconds(ms) for ms in (one.a_ms, one.b_ms))
            calls = (DASH if count is None else number(count) for count in (one.a_calls, one.b_calls))
            style = "yellow" if one.change_ms > 0 else "green"
            change = Text(f"{one.change_ms:+.3f}".replace("-", MINUS), style=style)
            rows.add_row(Text(_short(one.name)), *times, change, *calls)
        console.print(rows)
    console.print()
    console.print(f"ms per {difference.unit}; {DASH}: not there.", style="dim")
    for remark in difference.remarks:
        console.print(f"note: {remark}", style="dim", markup=False)


def render_findings(findings: Sequence[ReviewFinding], console: Console) -> None:
    """One line per finding."""
    for finding in findings:
        console.print(Text.assemble((f"{finding.level:<11}", STYLES[finding.level]), finding.text), soft_wrap=True)
    if not findings:
        console.print("nothing found")


def render_deep(record: CountersRecord | MachineCodeRecord, console: Console) -> None:
    """What is inside one call, as the tool for the device shows it."""
    if isinstance(record, MachineCodeRecord):
        _render_machine_code(record.results, console)
        return
    for launch in record.results.launches:
        console.print(Text(launch["kernel"], style="bold"))
        for name, reading in launch.items():
            if name != "kernel":
                console.print(Text(f"  {name:<34}{reading}"))


def _render_machine_code(results: MachineCodeResults, console: Console) -> None:
    """The loops, then the lines. Fits 80 columns."""
    called = f"{milliseconds(results.call_ms)} ms a call" if results.call_ms is not None else "no time"
    found = f"; its own code was found running {results.own_samples} times" if results.own_samples else ""
    console.print(f"{called}{found}\n")
    rows = _table(("loop", "left"), ("time", "right"), ("bits", "right"), ("instr.", "right"), ("per el.", "right"),
                  ("fma", "right"), ("dot", "right"), ("spills", "right"))  # fmt: skip
    for loop in results.loops:
        first, last = loop.lines or (0, 0)
        where = f"{loop.file}:{first}" + (f"-{last}" if last > first else "") if loop.file else loop.function
        work = (share(count / loop.arithmetic) if count else "-" for count in (loop.fma, loop.dot))
        each = f"{loop.instructions / loop.elements:.2g}" if loop.elements else "-"
        spilled = (loop.vector_stores + loop.stores, loop.vector_loads + loop.loads)
        moved = f"{spilled[0]}+{spilled[1]}" if any(spilled) else "-"
        style = "bold yellow" if loop.vector_loads + loop.vector_stores else ""
        rows.add_row(Text(_short(where, 28)), "-" if loop.share is None else share(loop.share), str(loop.bits or "-"),
                     str(loop.instructions), each, *work, Text(moved, style=style))  # fmt: skip
    console.print(rows)
    further = f"; {results.further_loops} further loops" if results.further_loops else ""
    console.print(
        "each without the loops inside it; instructions per iteration, per element of\nan array; fma, dot: share of "
        f"the arithmetic; spills: stores to + loads from\nthe stack, yellow where of floating-point numbers{further}\n",
        style="dim",
    )
    for line in results.lines:
        console.print(
            Text(f"{share(line.share):>6}  {line.file}:{line.line}  {line.text}"), overflow="ellipsis", no_wrap=True
        )
    if results.unwatched:
        console.print(results.unwatched, markup=False)


def _table(*columns: tuple[str, Any]) -> Table:
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name, justify in columns:
        made.add_column(name, justify=justify, no_wrap=True)
    return made


def _short(name: str, width: int = 36) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
