"""What the A/B saw: speed per process, val_bpb per seed, loss curves, divergence, and promise against delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from autoresearch_lab.ab.outcome import estimate, speed, title
from autoresearch_lab.evidence import judged_kernels
from autoresearch_lab.format import Estimate
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
from autoresearch_lab.results.record import AbRecord

# Colour, width and dash of the curves by their place; the reference is broad, so that one on top of it is still seen.
LOSS_LINES = ((OTHER, 5, "solid"), (OPTIMIZER, 1.8, "dot"), (BACKWARD, 1.8, "solid"))
DIVERGENCE_LINES = ((OTHER, 5, "solid"), (BACKWARD, 1.8, "solid"))


def process_ratios(ab: AbRecord) -> go.Figure | None:
    """Speed ratio of every process, and the interval over them."""
    ratios, ratio = ab.results.process_ratios, speed(ab)
    if not ratios:
        return None
    fig = figure(150, "tokens/s: candidate ÷ baseline", legend=False)
    _dots(fig, [f"process {i + 1}" for i in range(len(ratios))], ratios, "{:.4g}×")
    if ratio:
        _interval_row(fig, ratio, verdict_colour(ab.verdict), "×")
    fig.add_vline(x=1, line=dict(color=MUTED, width=1.5))
    _two_rows(fig, "processes", "interval" if ratio else None)
    return fig


def quality(ab: AbRecord) -> go.Figure | None:
    """Change of val_bpb per paired seed at equal tokens, its interval, and the margin that was stated beforehand."""
    pairs, gate = ab.results.neutral, ab.results.gates.get("neutral")
    if not pairs:
        return None
    delta, margin = estimate(gate), gate.margin if gate else None
    fig = figure(150, "Δ val_bpb at equal tokens", legend=False)
    if margin is not None:
        fig.add_vrect(x0=-margin, x1=margin, fillcolor=BAND, line_width=0, layer="below")
        fig.add_vline(x=margin, line=dict(color=OTHER, width=2, dash="dash"))
        fig.add_annotation(
            x=margin,
            y=1,
            yref="paper",
            text="margin",
            showarrow=False,
            xanchor="right",
            xshift=-4,
            yanchor="top",
            font=dict(color=MUTED, size=11.5),
        )
    _dots(fig, [f"seed {pair.seed}" for pair in pairs], [pair.delta for pair in pairs], "{:+.5f}")
    if delta:
        _interval_row(fig, delta, verdict_colour(ab.verdict), "")
    fig.add_vline(x=0, line=dict(color=MUTED, width=1.5))
    _two_rows(fig, "seeds", "interval" if delta else None)
    return fig


def losses(ab: AbRecord) -> go.Figure | None:
    """Training loss of both arms."""
    found = ab.results.losses
    curves = {
        "baseline": found.get("baseline"),
        "candidate at equal time": found.get("candidate_equal_time"),
        "candidate at equal tokens": found.get("candidate"),
    }
    return _curves(curves, "training loss, nats per token", LOSS_LINES, log=False)


def divergence(ab: AbRecord) -> go.Figure | None:
    """How fast the candidate's loss leaves the baseline's, beside a baseline moved by one unit in the last place."""
    gate = ab.results.gates.get("divergence")
    curves = {"baseline, one ulp moved": gate.control, "candidate": gate.candidate} if gate else {}
    return _curves(curves, "r.m.s. of Δ loss, nats", DIVERGENCE_LINES, log=True)


def promise(abs_: Sequence[AbRecord]) -> go.Figure | None:
    """Gain predicted from time share and speed-up, beside the gain measured in the trainer."""
    predicted: dict[str, float] = {}
    realised: dict[str, float] = {}
    for ab in abs_:
        gate = ab.results.gates.get("gain")
        if gate and gate.predicted is not None and gate.realised is not None:
            label = f"{' + '.join(judged_kernels(ab)) or title(ab)}<br>{ab.id[:8]}"
            predicted[label], realised[label] = 100 * gate.predicted, 100 * gate.realised
    if not predicted:
        return None
    labels = list(predicted)
    fig = figure(96 + 46 * len(labels), "gain in tokens per second, %")
    for label in labels:
        fig.add_scatter(
            x=[predicted[label], realised[label]],
            y=[label, label],
            mode="lines",
            line=dict(color=OTHER, width=3),
            hoverinfo="skip",
            showlegend=False,
        )
    for name, values, symbol, colour in (
        ("predicted", list(predicted.values()), "diamond-open", INK),
        ("realised", list(realised.values()), "circle", ACCENT),
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
    curves: Mapping[str, list[float] | None], y_title: str, lines: tuple[tuple[str, float, str], ...], *, log: bool
) -> go.Figure | None:
    """curves: {name: its value at every optimizer step}."""
    fig = figure(320, "optimizer step", y_title)
    held = {name: values for name, values in curves.items() if values}
    for (name, values), (colour, width, dash) in zip(held.items(), lines, strict=False):
        points = [(x, y) for x, y in enumerate(values, start=1) if not log or y > 0]
        if points:
            fig.add_scatter(
                name=name,
                mode="lines",
                x=[x for x, _ in points],
                y=[y for _, y in points],
                line=dict(color=colour, width=width, dash=dash),
                hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
            )
    if log:
        fig.update_yaxes(type="log", dtick=1, tickformat=".0e")
    return fig if fig.data else None
