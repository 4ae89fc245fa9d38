"""Speed-ups with their intervals, as a forest plot."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from autoresearch_lab.report.charts.style import BAND, INK, MUTED, OTHER, SURFACE, figure, interval, verdict_colour
from autoresearch_lab.report.views import SpeedRow

COARSE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
FINE = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4)
SYMBOLS = {"forward": "triangle-right", "backward": "triangle-left", "both": "circle"}
OFFSETS = {"forward": 0.25, "backward": -0.25}
ROW_PX = 52


def forest(speeds: tuple[SpeedRow, ...]) -> go.Figure | None:
    """One row per kernel: how many times faster than the baseline, with interval, on a logarithmic axis.

    Filled = candidate, hollow = library. The band around 1 is that A/A floor: nothing in it is a difference.
    """
    if not speeds:
        return None
    labels = list(dict.fromkeys(_label(speed) for speed in speeds))
    place = {label: float(len(labels) - 1 - index) for index, label in enumerate(labels)}
    fig = figure(96 + ROW_PX * len(labels), "times as fast as the baseline, or as what the verdict rests on")
    floors = dict.fromkeys(labels, 0.0)
    for speed in speeds:
        floors[_label(speed)] = max(floors[_label(speed)], speed.floor or 0.0)
    bands = [
        dict(type="rect", x0=1 / (1 + floor), x1=1 + floor, y0=place[label] - 0.45, y1=place[label] + 0.45,
             fillcolor=BAND, line=dict(width=0), layer="below")
        for label, floor in floors.items() if floor
    ]  # fmt: skip
    fig.update_layout(shapes=bands)
    fig.add_vline(x=1, line=dict(color=MUTED, width=1.5))
    for arm, decisive, direction, name in (
        ("candidate", False, "forward", "forward alone"), ("candidate", False, "backward", "backward alone"),
        ("candidate", True, "", "candidate, as the trainer calls it"), ("library", True, "", "library"),
    ):  # fmt: skip
        group = [s for s in speeds if (s.arm, s.decisive) == (arm, decisive) and direction in ("", s.direction)]
        if group:
            _points(fig, name, group, place)
    values = [speed.ratio.value for speed in speeds] + [1.0]
    ends = [end for speed in speeds for end in (speed.ratio.low, speed.ratio.high) if end and end > 0] + values
    # Intervals of a hopelessly noisy run may span decades; they are cut off, so that the others stay readable.
    low, high = max(min(ends) / 1.15, min(values) / 6), min(max(ends) * 1.3, max(values) * 6)
    ticks = [tick for tick in (COARSE if high / low > 5 else FINE) if low <= tick <= high]
    fig.update_xaxes(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[f"{tick:g}×" for tick in ticks],
        tickangle=0,
    )
    fig.update_yaxes(
        tickvals=list(place.values()), ticktext=list(place), range=[-0.6, len(labels) - 0.4], showgrid=False,
        tickfont=dict(color=INK),
    )  # fmt: skip
    return fig


def _label(speed: SpeedRow) -> str:
    return f"{speed.target}<br>{speed.kernel}"


def _points(fig: go.Figure, name: str, group: list[SpeedRow], place: dict[str, float]) -> None:
    large = group[0].decisive
    colours = [verdict_colour(s.verdict) if s.verdict else MUTED if s.arm == "library" else OTHER for s in group]
    y = [place[_label(speed)] + (0.0 if large else OFFSETS[speed.direction]) for speed in group]
    # An error bar takes one colour per trace, so the lines are drawn: those of a colour in one trace, with gaps.
    lines: dict[str, tuple[list[float | None], list[float | None]]] = {colour: ([], []) for colour in colours}
    for speed, colour, at in zip(group, colours, y, strict=True):
        down, up = interval(speed.ratio.value, speed.ratio.low, speed.ratio.high)
        lines[colour][0].extend((speed.ratio.value - down, speed.ratio.value + up, None))
        lines[colour][1].extend((at, at, None))
    for colour, (ends, places) in lines.items():
        fig.add_scatter(
            x=ends, y=places, mode="lines", hoverinfo="skip", line=dict(color=colour, width=3 if large else 1.6),
            showlegend=False,
        )  # fmt: skip
    fig.add_scatter(
        name=name, mode="markers+text" if large else "markers", x=[speed.ratio.value for speed in group], y=y,
        text=[f"{speed.ratio.value:.3g}×" for speed in group] if large else None, textposition="top center",
        textfont=dict(size=11.5, color=INK),
        marker=dict(
            symbol="circle" if large else SYMBOLS[group[0].direction], size=12 if large else 8,
            color=[SURFACE if speed.arm == "library" else colour for colour, speed in zip(colours, group, strict=True)],
            line=dict(width=2, color=colours),
        ),
        customdata=[
            [f"{s.target} {s.kernel}, {direction_name(s.direction)}{_against(s)}", _bounds(s), s.verdict or s.arm]
            for s in group
        ],
        hovertemplate="%{customdata[0]}: %{x:.4g}× %{customdata[1]}, %{customdata[2]}<extra></extra>",
    )  # fmt: skip


def direction_name(direction: str) -> str:
    return "forward + backward" if direction == "both" else direction


def _against(speed: SpeedRow) -> str:
    return f", against {speed.against}" if speed.against else ""


def _bounds(speed: SpeedRow) -> str:
    low, high = speed.ratio.low, speed.ratio.high
    return "" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"
