"""What all charts share: colours by meaning, type, margins, axes."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

# Names of CSS variables in report.css; the palette there is Okabe and Ito's, which colour-blind readers can tell apart.
FORWARD = "var(--forward)"
BACKWARD = "var(--backward)"
OPTIMIZER = "var(--optimizer)"
OTHER = "var(--other)"
INK = "var(--ink)"
MUTED = "var(--muted)"
GRID = "var(--grid)"
SURFACE = "var(--surface)"
GOOD = "var(--good)"
BAD = "var(--bad)"
UNSURE = "var(--unsure)"
ACCENT = "var(--accent)"
BAND = "var(--band)"

VERDICT_COLOURS = {
    "FASTER": GOOD,
    "PROMOTE": GOOD,
    "PASS": GOOD,
    "SLOWER": BAD,
    "REJECT": BAD,
    "FAIL": BAD,
    "AMBIGUOUS": UNSURE,
    "UNDECIDED": UNSURE,
    "SAME": MUTED,
}
ROW_PX = 34


def verdict_colour(verdict: str | None) -> str:
    return VERDICT_COLOURS.get(verdict or "", ACCENT)


def figure(height: int, x_title: str = "", y_title: str = "", *, legend: bool = True) -> go.Figure:
    """An empty figure in the page's style; `height` in CSS pixels."""
    axis = dict(
        gridcolor=GRID,
        linecolor=GRID,
        zeroline=False,
        automargin=True,
        tickfont=dict(color=MUTED),
        fixedrange=True,
        ticks="outside",
        ticklen=6,
        tickcolor="rgba(0,0,0,0)",
    )
    layout: dict[str, Any] = dict(
        template=None,
        height=height,
        margin=dict(l=8, r=20, t=36 if legend else 10, b=44 if x_title else 28),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=dict(family="var(--sans)", size=12.5, color=INK),
        hoverlabel=dict(bgcolor=SURFACE, bordercolor=GRID, font=dict(color=INK)),
        showlegend=legend,
        legend=dict(
            orientation="h", x=0, xanchor="left", y=1, yanchor="bottom", font=dict(color=INK), traceorder="normal"
        ),
        xaxis={**axis, "title": dict(text=x_title, font=dict(color=MUTED, size=12.5), standoff=12)},
        yaxis={**axis, "title": dict(text=y_title, font=dict(color=MUTED, size=12.5), standoff=8)},
        bargap=0.38,
    )
    return go.Figure(layout=layout)


def rows(fig: go.Figure, labels: list[str]) -> None:
    """Make the y axis one of named rows, the first on top."""
    fig.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=list(reversed(labels)),
        showgrid=False,
        tickfont=dict(color=INK),
    )


def interval(value: float, low: float | None, high: float | None) -> tuple[float, float]:
    """(length of the arm downwards, upwards) of an error bar; an open side has none."""
    return (value - low if low is not None else 0.0, high - value if high is not None else 0.0)
