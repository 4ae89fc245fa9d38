"""Where the step's time goes."""

from __future__ import annotations

import plotly.graph_objects as go

from autoresearch_lab.report.charts.style import (
    BACKWARD,
    FORWARD,
    INK,
    MUTED,
    OPTIMIZER,
    OTHER,
    ROW_PX,
    figure,
    rows,
)
from autoresearch_lab.results.profile import ProfileResults, TargetTimes

UNATTRIBUTED = "everything else"


def hot_ops(profile: ProfileResults) -> go.Figure | None:
    """Stacked bars per target (forward, backward, optimizer) with the floor that the machine's ceilings allow."""
    hot = sorted((row for row in profile.targets if row.total_ms > 0), key=lambda row: -row.total_ms)
    if not hot:
        return None
    names = [row.target for row in hot]
    has_rest = profile.unattributed_ms is not None
    fig = figure(90 + ROW_PX * (len(hot) + has_rest), "ms per training step")
    for label, key, colour in (
        ("forward", "forward_ms", FORWARD),
        ("backward", "backward_ms", BACKWARD),
        ("optimizer", "optimizer_ms", OPTIMIZER),
    ):
        values = [getattr(row, key) for row in hot]
        if any(values):
            fig.add_bar(
                name=label,
                orientation="h",
                y=names,
                x=values,
                marker=dict(color=colour, line=dict(width=0)),
                hovertemplate=f"%{{y}} {label}: %{{x:.2f}} ms<extra></extra>",
            )
    if has_rest:
        fig.add_bar(
            name=UNATTRIBUTED,
            orientation="h",
            y=[UNATTRIBUTED],
            x=[profile.unattributed_ms],
            showlegend=False,
            marker=dict(color=OTHER, line=dict(width=0)),
            hovertemplate="not in a target: %{x:.2f} ms<extra></extra>",
        )
    floored = [row for row in hot if row.floor_ms is not None]
    if floored:
        fig.add_scatter(
            name="floor of this machine",
            mode="markers",
            y=[row.target for row in floored],
            x=[row.floor_ms for row in floored],
            marker=dict(symbol="line-ns", size=17, line=dict(color=INK, width=2.5)),
            hovertemplate="%{y}: the ceilings allow %{x:.2f} ms<extra></extra>",
        )
    _label_saveable(fig, hot)
    fig.update_layout(barmode="stack")
    widest = max([row.total_ms for row in hot] + [profile.unattributed_ms or 0.0])
    fig.update_xaxes(range=[0, widest * 1.24], rangemode="tozero")
    rows(fig, names + [UNATTRIBUTED] * has_rest)
    return fig


def _label_saveable(fig: go.Figure, hot: list[TargetTimes]) -> None:
    for row in hot:
        if row.saveable_ms:
            fig.add_annotation(
                x=row.total_ms,
                y=row.target,
                text=f"{row.saveable_ms:.3g} ms could go",
                showarrow=False,
                xanchor="left",
                xshift=7,
                font=dict(color=MUTED, size=11.5),
            )
