"""The profile on a terminal."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.format import percent
from autoresearch_lab.format import share as shown
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.results.profile import TargetTimes

BAR_CELLS = 8
EIGHTHS = " ▏▎▍▌▋▊▉"
BUSY_SPREAD = 0.2
SUM_TOLERANCE = 0.05


def render(profile: Profile, top_k: int, console: Console) -> None:
    """Print the `top_k` first rows, the rest of the step, and what the numbers rest on. Fits 80 columns."""
    console.print(
        Text.assemble(
            (profile.preset, "bold"),
            f" on {profile.device.get('name', profile.engine)}: "
            f"{profile.step_ms:.1f} ms per uncompiled step, {profile.tokens_per_second:,.0f} tokens/s\n",
        )
    )
    shown = profile.targets[:top_k]
    widest = max([row.share for row in profile.targets] + [profile.unattributed_ms / profile.step_ms, 1e-9])
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name, justify in _COLUMNS:
        table.add_column(name, justify=justify, no_wrap=True)
    for row in shown:
        table.add_row(*_cells(row, widest))
    hidden = profile.targets[top_k:]
    if hidden:
        # Inner targets are part of the ones around them already.
        time_ms = sum(row.self_ms for row in hidden)
        table.add_row("", f"{len(hidden)} more", _bar(time_ms / profile.step_ms, widest), style="dim")
    _add_rest(table, profile, widest)
    console.print(table)
    console.print()
    for line in notes(profile):
        console.print(line, style="dim")


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    *(("#", "right"), ("target", "left"), ("share", "left"), ("fwd", "right"), ("bwd", "right"), ("opt", "right")),
    *(("calls", "right"), ("floor", "right"), ("can save", "right")),
)


def _cells(row: TargetTimes, widest: float) -> list[str | Text]:
    saveable = "unknown" if row.saveable_ms is None else milliseconds(row.saveable_ms)
    return [
        str(row.rank),
        row.target,
        _bar(row.share, widest),
        milliseconds(row.forward_ms),
        milliseconds(row.backward_ms),
        milliseconds(row.optimizer_ms),
        f"{row.calls_per_step:g}",
        "unknown" if row.floor_ms is None else milliseconds(row.floor_ms),
        Text("impossible", style="red") if row.impossible else Text(saveable, style="bold"),
    ]


def _add_rest(table: Table, profile: Profile, widest: float) -> None:
    """The time outside the targets, with those of its parts that have a name."""
    table.add_row("", "outside the targets", _bar(profile.unattributed_ms / profile.step_ms, widest), style="dim")
    for part in profile.elsewhere:
        share = _bar((part.forward_ms + part.backward_ms) / profile.step_ms, widest)
        times = (milliseconds(part.forward_ms), milliseconds(part.backward_ms), "")
        table.add_row("", f"  {part.name}", share, *times, f"{part.calls_per_step:g}", style="dim")


def notes(profile: Profile) -> list[str]:
    """What a reader has to know beside the numbers, a line each."""
    phases = ", ".join(f"{name} {milliseconds(ms)}" for name, ms in profile.phases.items())
    step, parts, deviation = profile.step_ms, profile.sum_ms, profile.sum_deviation
    lines = [
        f"ms per step of {profile.tokens_per_step:,} tokens, mean of the middle half of {profile.steps} steps.",
        f"phases: {phases}.",
        f"sum of the parts {parts:.1f}, plain step {step:.1f} ({percent(deviation)}).",
        *_ceilings(profile),
    ]
    lines += [f"{row.target} includes {', '.join(row.includes)}." for row in profile.targets if row.includes]
    if profile.step_spread > BUSY_SPREAD or abs(deviation) > SUM_TOLERANCE:
        spread = f"plain steps varied by {profile.step_spread:.0%}"
        lines.append(f"The machine was busy ({spread}): profile again when it is quiet.")
    return lines


def _ceilings(profile: Profile) -> list[str]:
    copy, products = profile.ceilings.copy_gb_s, profile.ceilings.matmul_gflop_s
    if not copy:
        return ["The ceilings of this machine are unknown, so no floor can be given."]
    rates = ", ".join(f"{dtype} {rate:,.0f}" for dtype, rate in products.items())
    return [
        "can save = time now - floor; floor = least time at the measured ceilings:",
        f"  memory {copy[-1][1]:.0f} GB/s, caches up to {max(rate for _, rate in copy):.0f};",
        f"  products {rates} GFLOP/s.",
    ]


def milliseconds(value: float) -> str:
    """Three digits at most, and nothing for nothing."""
    if value == 0:
        return ""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _bar(share: float, widest: float) -> Text:
    """A bar in eighths of a cell, the longest filling the column, and the share in per cent."""
    eighths = round(min(1.0, max(0.0, share / widest)) * BAR_CELLS * 8)
    bar = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text.assemble((bar.ljust(BAR_CELLS), "cyan"), shown(share).rjust(8))
