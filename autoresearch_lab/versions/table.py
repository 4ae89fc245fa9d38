"""A trial's record, and a review, on a terminal, within 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab import format as form
from autoresearch_lab.format import Estimate
from autoresearch_lab.results.record import VersionRecord
from autoresearch_lab.results.trial import RecordedSide
from autoresearch_lab.versions.review import VersionReview

COLOURS = {"BETTER": "bold green", "WORSE": "bold red", "SAME": "bold", "UNDECIDED": "bold yellow"}


def render(record: VersionRecord, console: Console) -> None:
    """Verdict and reason, then both sides beside each other."""
    found, settings = record.results, record.settings
    title = f"  {settings.b.asked} against {settings.a.asked} ({settings.preset})"
    console.print(Text.assemble(Text(record.verdict, style=COLOURS[record.verdict]), title))
    console.print(found.reason, markup=False)
    if found.look:
        console.print(_table(record))
    spent = f"{found.look} looks, {found.seconds / 60:.1f} minutes of trainings"
    spent += f", {found.reused} of them reused" if found.reused else ""
    for line in [*(_side(name, side) for name, side in (("a", settings.a), ("b", settings.b))), spent, *found.remarks]:
        console.print(line, style="dim", markup=False)


def _side(name: str, side: RecordedSide) -> str:
    options = "".join(f" {key}={value}" for key, value in side.options.items())
    return f"{name}: {side.commit}{options}, data {side.dataset} {side.fingerprint[:12]}, tree {side.tree[:12]}"


def _table(record: VersionRecord) -> Table:
    found, steps = record.results, record.settings.steps
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "a", "b", "b - a"):
        table.add_column(heading, justify="left" if not heading else "right")

    def difference(point: float | None, low: float | None, high: float | None) -> str:
        return form.signed_interval(Estimate(point, low, high)) if point is not None else form.DASH

    def mean(side: str) -> str:
        values = [getattr(pair, side) for pair in found.pairs]
        return form.bpb(sum(values) / len(values))

    timed = difference(found.delta, found.lower, found.upper)
    tokens = difference(found.tokens_delta, found.tokens_lower, found.tokens_upper)
    ratio = form.times_interval(Estimate(found.ratio or 0.0, found.ratio_lower, found.ratio_upper))
    if found.ratio_lower == found.ratio_upper:  # no speed was asked for
        ratio = "same work in a step"
    speeds, memory = found.tokens_per_second, found.peak_memory_mb
    table.add_row("val_bpb, equal time", mean("a"), mean("timed"), timed)
    table.add_row("val_bpb, equal tokens", mean("a"), mean("b"), tokens)
    table.add_row("tokens/s", f"{speeds['a']:,.0f}", f"{speeds['b']:,.0f}", ratio)
    table.add_row("memory, MiB", f"{memory['a']:,.0f}", f"{memory['b']:,.0f}", f"{memory['b'] - memory['a']:+,.0f}")
    table.add_row("steps, equal time", str(steps["a"]), str(found.timed_steps), "")
    return table


def show_review(found: VersionReview, console: Console) -> None:
    """What speaks against a trial, and what it would take."""
    stops = sum(finding.stops for finding in found.findings)
    head = Text("worth a trial", style="bold green") if found.passed else Text("not worth a trial", style="bold red")
    reasons = "nothing" if found.passed else "1 finding" if stops == 1 else f"{stops} findings"
    console.print(Text.assemble(head, f": {reasons} against it, after {found.seconds:.0f} s"))
    for finding in found.findings:
        label = Text(f"{finding.kind.replace('_', ' ')}: ", style="bold red" if finding.stops else "bold yellow")
        console.print(Text.assemble(label, finding.note))
    if found.memory_mb is not None:
        console.print(f"memory: {found.memory_mb:,.0f} MiB at most in two steps, uncompiled; its plan: {found.planned}")
    names = ", ".join(found.changed[:8]) + (" ..." if len(found.changed) > 8 else "")
    console.print(f"changed: {names or 'no file'}", style="dim")
