"""What the A/B saw: speed per process, val_bpb per seed, loss curves, divergence, and promise against delivery."""

from __future__ import annotations

import plotly.graph_objects as go

from autoresearch_lab.report.charts.style import (
    ACCENT,
    BACKWARD,
    BAND,
    INK,
    MUTED,
    OPTIMIZER,
    OTHER,
    figure,
    interval,
    rows,
    verdict_colour,
)
from autoresearch_lab.report.views import AB, Curve, Estimate

# Colour, width and dash of the curves by their place; the reference is broad, so that one on top of it is still seen.
LOSS_LINES = ((OTHER, 5, "solid"), (OPTIMIZER, 1.8, "dot"), (BACKWARD, 1.8, "solid"))
DIVERGENCE_LINES = ((OTHER, 5, "solid"), (BACKWARD, 1.8, "solid"))


def process_ratios(ab: AB) -> go.Figure | None:
    """Speed ratio of every process, and the interval over them."""
    if not ab.process_ratios:
        return None
    fig = figure(150, "tokens/s: candidate ÷ baseline", legend=False)
    _dots(fig, [f"process {i + 1}" for i in range(len(ab.process_ratios))], list(ab.process_ratios), "{:.4g}×")
    if ab.ratio:
        _interval_row(fig, ab.ratio, verdict_colour(ab.verdict), "×")
    fig.add_vline(x=1, line=dict(color=MUTED, width=1.5))
    _two_rows(fig, "processes", "interval" if ab.ratio else None)
    return fig


def quality(ab: AB) -> go.Figure | None:
    """Change of val_bpb per paired seed at equal tokens, its interval, and the margin that was stated beforehand."""
    if not ab.deltas:
        return None
    fig = figure(150, "Δ val_bpb at equal tokens", legend=False)
    if ab.margin is not None:
        fig.add_vrect(x0=-ab.margin, x1=ab.margin, fillcolor=BAND, line_width=0, layer="below")
        fig.add_vline(x=ab.margin, line=dict(color=OTHER, width=2, dash="dash"))
        fig.add_annotation(
            x=ab.margin,
            y=1,
            yref="paper",
            text="margin",
            showarrow=False,
            xanchor="right",
            xshift=-4,
            yanchor="top",
            font=dict(color=MUTED, size=11.5),
        )
    _dots(fig, [f"seed {seed}" for seed, _ in ab.deltas], [delta for _, delta in ab.deltas], "{:+.5f}")
    if ab.delta:
        _interval_row(fig, ab.delta, verdict_colour(ab.verdict), "")
    fig.add_vline(x=0, line=dict(color=MUTED, width=1.5))
    _two_rows(fig, "seeds", "interval" if ab.delta else None)
    return fig


def losses(ab: AB) -> go.Figure | None:
    """Training loss of both arms."""
    return _curves(ab.losses, "optimizer step", "training loss, nats per token", LOSS_LINES, log=False)


def divergence(ab: AB) -> go.Figure | None:
    """How fast the candidate's loss leaves the baseline's, beside a baseline moved by one unit in the last place."""
    return _curves(ab.divergence, "optimizer step", "r.m.s. of Δ loss, nats", DIVERGENCE_LINES, log=True)


def promise(abs_: tuple[AB, ...]) -> go.Figure | None:
    """Gain predicted from time share and speed-up, beside the gain measured in the trainer."""
    shown = [ab for ab in abs_ if ab.predicted is not None and ab.realised is not None]
    if not shown:
        return None
    labels = [f"{' + '.join(ab.contents) or ab.title}<br>{ab.source.id[:8]}" for ab in shown]
    fig = figure(96 + 46 * len(shown), "gain in tokens per second, %")
    for label, ab in zip(labels, shown, strict=True):
        fig.add_scatter(
            x=[100 * ab.predicted, 100 * ab.realised],
            y=[label, label],
            mode="lines",
            line=dict(color=OTHER, width=3),
            hoverinfo="skip",
            showlegend=False,
        )
    for name, values, symbol, colour in (
        ("predicted", [100 * ab.predicted for ab in shown], "diamond-open", INK),
        ("realised", [100 * ab.realised for ab in shown], "circle", ACCENT),
    ):
        fig.add_scatter(
            name=name,
            x=values,
            y=labels,
            mode="markers",
            marker=dict(symbol=symbol, size=12, color=colour, line_width=2),
            hovertemplate=f"%{{y}} {name}: %{{x:+.1f}} %<extra></extra>",
        )
    fig.add_vline(x=0, line=dict(color=MUTED, width=1.5))
    rows(fig, labels)
    return fig


def _dots(fig: go.Figure, names: list[str], values: list[float], form: str) -> None:
    fig.add_scatter(
        x=values,
        y=[1.0] * len(values),
        mode="markers",
        marker=dict(symbol="circle-open", size=12, color=ACCENT, line=dict(width=2)),
        text=[f"{name}: {form.format(value)}" for name, value in zip(names, values, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )


def _interval_row(fig: go.Figure, estimate: Estimate, colour: str, unit: str) -> None:
    down, up = interval(estimate.value, estimate.low, estimate.high)
    fig.add_scatter(
        x=[estimate.value],
        y=[0.0],
        mode="markers",
        marker=dict(symbol="diamond", size=13, color=colour),
        error_x=dict(type="data", symmetric=False, array=[up], arrayminus=[down], color=colour, thickness=3, width=7),
        hovertemplate=f"%{{x:.5g}}{unit}<extra></extra>",
    )


def _two_rows(fig: go.Figure, upper: str, lower: str | None) -> None:
    values, names = ([1.0, 0.0], [upper, lower]) if lower else ([1.0], [upper])
    fig.update_yaxes(
        tickvals=values, ticktext=names, range=[-0.7 if lower else 0.4, 1.6], showgrid=False, tickfont=dict(color=INK)
    )


def _curves(
    curves: tuple[Curve, ...], x_title: str, y_title: str, lines: tuple[tuple[str, float, str], ...], *, log: bool
) -> go.Figure | None:
    fig = figure(320, x_title, y_title)
    for curve, (colour, width, dash) in zip(curves, lines, strict=False):
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if not log or y > 0]
        if points:
            fig.add_scatter(
                name=curve.label,
                mode="lines",
                x=[x for x, _ in points],
                y=[y for _, y in points],
                line=dict(color=colour, width=width, dash=dash),
                hovertemplate=f"{curve.label}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
            )
    if log:
        fig.update_yaxes(type="log", dtick=1, tickformat=".0e")
    return fig if fig.data else None
