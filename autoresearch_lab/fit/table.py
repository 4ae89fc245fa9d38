"""A fit's record on a terminal: the zone of shapes, what the evaluation costs, and other machines for orientation."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab import format as form
from autoresearch_lab.format import Estimate
from autoresearch_lab.results.fit import FitResults, ForecastShape
from autoresearch_lab.results.record import FitRecord

COLOURS = {"BETTER": "bold green", "WORSE": "bold", "UNDECIDED": "bold yellow"}
MOST_SHAPES = 6
# Five minutes elsewhere, as published: hardware and shape, depth / width, tokens per step, tokens/s, steps, MB,
# val_bpb. The M5 (32 GB, 10 GPU cores) by the project whose presets have its name, the H100 by karpathy/autoresearch.
PUBLISHED = (
    ("M5, m5-tiny", "2 / 128", 12_288, 103_000, 2516, 282, 1.715),
    ("M5, m5-small", "4 / 256", 12_288, 46_000, 1066, 1_010, 1.442),
    ("M5, m5-balanced", "6 / 384", 12_288, 18_200, 444, 2_770, 1.429),
    ("M5, m5-large", "8 / 512", 16_384, 13_500, 250, 2_660, 1.607),
    ("M5, m5-xlarge", "8 / 512", 16_384, 8_800, 162, 7_440, 1.748),
    ("H100, upstream", "8 / 512", 524_288, 1_650_000, 953, 45_060, 0.998),
)


def render(record: FitRecord, console: Console) -> None:
    """Verdict and reason, the shapes at the horizon, the rungs, and what others measured."""
    found, settings = record.results, record.settings
    title = f"  {found.recommended} for {settings.horizon:.0f} s on {(record.device or {}).get('name')}"
    console.print(Text.assemble(Text(record.verdict, style=COLOURS[record.verdict]), title))
    console.print(found.reason)
    if found.gain is not None:
        gain = form.signed_interval(Estimate(found.gain, found.gain_lower, found.gain_upper))
        console.print(f"after {settings.horizon:.0f} s {found.candidate} is predicted to differ by {gain}")
    console.print(_shapes(record))
    console.print(
        "val_bpb of other machines is of other data, another validation split and another evaluation", style="dim"
    )
    for rung in found.rungs:
        apart = f", of a difference {rung.difference:.4f}" if rung.difference is not None else ""
        console.print(
            f"evaluation {rung.rung}: {rung.tokens:,} tokens, {rung.seconds:.1f} s, "
            f"error {rung.level:.4f} (at most {rung.worst:.4f}){apart}"
        )
    for line in _remarks(record):
        console.print(line, style="dim")


def _shapes(record: FitRecord) -> Table:
    found = record.results
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "shape", "depth / width", "tokens/step", "tokens/s", "steps", "MB", "val_bpb"):
        table.add_column(heading, justify="left" if heading in ("", "shape") else "right")
    for shape in _shown(found, record.settings.preset):
        interval = form.bpb(shape.val_bpb) + form.bounds(Estimate(0.0, shape.lower, shape.upper), form.bpb)
        _row(table, _roles(found, record.settings.preset, shape.preset), shape.preset, f"{shape.depth} / {shape.width}",
             shape.tokens_per_step, shape.tokens_per_second, shape.steps, shape.memory_mb, interval)  # fmt: skip
    table.add_section()
    for name, form_of, *numbers, val_bpb in PUBLISHED:
        _row(table, "", str(name), str(form_of), *numbers, f"{val_bpb:.3f}")
    return table


def _row(table: Table, role: str, name: str, shape: str, *cells: object) -> None:
    table.add_row(role, name, shape, *(cell if isinstance(cell, str) else f"{cell:,.0f}" for cell in cells))


def _shown(found: FitResults, default: str) -> list[ForecastShape]:
    """Those that have a role, and the best of the others, by their val_bpb."""
    roles = {default, found.recommended, found.lower, found.upper, found.longer, found.candidate}
    others = [shape for shape in found.shapes if shape.preset not in roles][: max(0, MOST_SHAPES - len(roles))]
    return [shape for shape in found.shapes if shape.preset in roles or shape in others]


def _roles(found: FitResults, default: str, name: str) -> str:
    named = {
        "recommended": found.recommended, "default": default, "lower": found.lower, "upper": found.upper,
        "longer": found.longer,
    }  # fmt: skip
    return ", ".join(role for role, preset in named.items() if preset == name)


def _remarks(record: FitRecord) -> list[str]:
    found, settings = record.results, record.settings
    lines = [f"lower and upper: the smallest and the largest shape within {found.zone} of the recommended one"]
    if found.longer:
        lines.append(f"longer: the best of the larger shapes for trainings of {found.longer_seconds:,.0f} s")
    lines.append(
        f"predicted by E + A D^-b, b = {found.exponent:.2f}, from {len(found.runs)} trainings on "
        f"{settings.dataset.name}, {found.reused} of them reused; {found.seconds / 60:.1f} minutes, "
        f"{found.predicted_seconds / 60:.1f} were predicted"
    )
    return lines + [f"left out: {name}: {why}" for name, why in found.dropped.items()]
