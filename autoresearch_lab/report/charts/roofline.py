"""How near each target is to what the machine can do."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from autoresearch_lab.report.charts.style import ACCENT, INK, MUTED, OTHER, figure
from autoresearch_lab.results.profile import ProfileResults

# Size of the plotting area on a wide page, for placing names; on other widths it is an approximation.
PLOT_PX = (940.0, 300.0)
LETTER_PX, LINE_PX = 6.6, 15.0
POSITIONS = ("top center", "bottom center", "middle right", "middle left")

Box = tuple[float, float, float, float]  # left, bottom, right, top


def roofline(profile: ProfileResults) -> go.Figure | None:
    """Arithmetic intensity against achieved rate, under the measured ceilings (Williams, Waterman, Patterson 2009)."""
    bandwidths, compute = profile.ceilings.copy_gb_s, profile.ceilings.matmul_gflop_s
    known = [
        (row, row.flops / row.bytes, row.gflop_s) for row in profile.targets if row.flops and row.bytes and row.gflop_s
    ]
    if not known or not bandwidths or not compute:
        return None
    points, intensity, rates = ([*column] for column in zip(*known, strict=True))
    memory = bandwidths[-1][1]
    cache = max(rate for _, rate in bandwidths)
    top = max(compute.values())
    low_x = 10 ** math.floor(math.log10(min([*intensity, top / cache]) * 0.8))
    high_x = 10 ** math.ceil(math.log10(max([*intensity, top / memory]) * 1.2))
    fig = figure(460, "arithmetic intensity: FLOP per byte moved", "GFLOP/s")
    for label, rate, dash in (("memory", memory, "solid"), ("cache", cache, "dot")):
        if label == "cache" and cache <= memory * 1.05:
            continue
        knee = top / rate
        fig.add_scatter(
            name=f"{label}: {rate:,.3g} GB/s copied",
            mode="lines",
            x=[low_x, knee],
            y=[low_x * rate, top],
            line=dict(color=MUTED, width=2, dash=dash),
            hoverinfo="skip",
        )
    for dtype, rate in sorted(compute.items(), key=lambda item: -item[1]):
        fig.add_scatter(
            name=f"{dtype} products: {rate:,.3g} GFLOP/s",
            mode="lines",
            x=[min(rate / cache, high_x), high_x],
            y=[rate, rate],
            line=dict(color=INK if rate == top else OTHER, width=2),
            hoverinfo="skip",
        )
    low_y = 10 ** math.floor(math.log10(min([*rates, low_x * memory * 2]) * 0.8))
    x_range, y_range = (math.log10(low_x), math.log10(high_x)), (math.log10(low_y), math.log10(top) + 0.4)
    largest = max(row.total_ms for row in points)
    sizes = [8 + 22 * math.sqrt(row.total_ms / largest) for row in points]
    places = [
        (_share(math.log10(a), x_range) * PLOT_PX[0], _share(math.log10(b), y_range) * PLOT_PX[1])
        for a, b in zip(intensity, rates, strict=True)
    ]
    fig.add_scatter(
        name="targets (area: time in the step)",
        mode="markers+text",
        x=intensity,
        y=rates,
        text=[row.target for row in points],
        textposition=label_positions([row.target for row in points], places, sizes),
        textfont=dict(color=INK, size=11.5),
        marker=dict(color=ACCENT, opacity=0.85, line=dict(width=0), size=sizes),
        customdata=[[row.target, row.total_ms] for row in points],
        hovertemplate="%{customdata[0]}: %{x:.3g} FLOP/B, %{y:.3g} GFLOP/s, %{customdata[1]:.3g} ms<extra></extra>",
    )
    fig.update_xaxes(type="log", range=x_range, dtick=1)
    fig.update_yaxes(type="log", range=y_range, dtick=1)
    fig.update_layout(margin=dict(t=62))
    return fig


def _share(value: float, ends: tuple[float, float]) -> float:
    return (value - ends[0]) / (ends[1] - ends[0])


def label_positions(names: list[str], places: list[tuple[float, float]], sizes: list[float]) -> list[str]:
    """A position for every point's name, so that it lies on no other point, on no name before it, and inside the plot.

    places: centres in pixels from the lower left; sizes: diameters in pixels. Where every position is taken, the first.
    """
    taken = [
        (x - size / 2, y - size / 2, x + size / 2, y + size / 2) for (x, y), size in zip(places, sizes, strict=True)
    ]
    chosen = []
    for index, name in enumerate(names):
        others = taken[:index] + taken[index + 1 :]
        boxes = {position: _box(name, places[index], sizes[index], position) for position in POSITIONS}
        free = [position for position in POSITIONS if _inside(boxes[position]) and not _hits(boxes[position], others)]
        chosen.append((free or POSITIONS)[0])
        taken.append(boxes[chosen[-1]])
    return chosen


def _box(name: str, place: tuple[float, float], size: float, position: str) -> Box:
    """Where the name would be drawn."""
    (x, y), width, gap = place, len(name) * LETTER_PX, size / 2 + 2
    if position.endswith("center"):
        bottom = y + gap if position.startswith("top") else y - gap - LINE_PX
        return (x - width / 2, bottom, x + width / 2, bottom + LINE_PX)
    left = x + gap if position.endswith("right") else x - gap - width
    return (left, y - LINE_PX / 2, left + width, y + LINE_PX / 2)


def _inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= PLOT_PX[0] and box[3] <= PLOT_PX[1]


def _hits(box: Box, others: list[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)
