"""A trace profile, findings and hardware counters on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.format import share
from autoresearch_lab.profile.table import milliseconds
from autoresearch_lab.trace.rules import ReviewFinding
from autoresearch_lab.trace.schema import TraceProfile

KERNELS = 8
STYLES = {"problem": "bold yellow", "suggestion": "bold", "note": "dim"}


def render(profile: TraceProfile, console: Console) -> None:
    """Print the targets, the rest, and the busiest kernels. Fits 80 columns."""
    name = profile.device.get("name", profile.engine)
    mode = "compiled" if profile.compiled else "uncompiled"
    console.print(
        f"[bold]{profile.preset}[/bold], {mode}, on {name}: {profile.steps} traced steps of {profile.step_ms:.1f} ms,\n"
        f"device at work {profile.busy_ms:.1f} ms, idle {share(profile.idle_share)}\n"
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


def render_findings(findings: Sequence[ReviewFinding], console: Console) -> None:
    """One line per finding."""
    for finding in findings:
        console.print(Text.assemble((f"{finding.level:<11}", STYLES[finding.level]), finding.text), soft_wrap=True)
    if not findings:
        console.print("nothing found")


def render_counters(launches: Sequence[Mapping[str, str]], console: Console) -> None:
    """One block per launch: every reading by name."""
    for launch in launches:
        console.print(Text(launch["kernel"], style="bold"))
        for name, reading in launch.items():
            if name != "kernel":
                console.print(Text(f"  {name:<34}{reading}"))


def _table(*columns: tuple[str, Any]) -> Table:
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name, justify in columns:
        made.add_column(name, justify=justify, no_wrap=True)
    return made


def _short(name: str, width: int = 36) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
