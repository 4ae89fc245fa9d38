"""The report as one HTML file: styles, script, charting library and data inside, so that it opens anywhere, offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autoresearch_lab.report import format as form
from autoresearch_lab.report.charts import profile as profile_charts
from autoresearch_lab.report.charts import roofline as roofline_chart
from autoresearch_lab.report.charts import speed as speed_charts
from autoresearch_lab.report.charts import training as training_charts
from autoresearch_lab.report.views import Report

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    form.number, form.times_interval, form.percent, form.percent_interval, form.share, form.gain_interval, form.signed,
    form.signed_interval, form.signed_bounds, form.bpb, form.milliseconds, form.moment, form.short, form.level,
    form.tone, form.subject, form.outcome,
)  # fmt: skip


def render(report: Report) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: _unbroken(function) for function in FILTERS})
    drawn = figures(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        figures={name: json.loads(figure.to_json()) for name, figure in drawn.items()},
        sections=_sections(report),
        facts=_facts(report),
        checks=list(dict.fromkeys(check.name for found in report.verifications for check in found.checks)),
        # Trusted text of this package and of Plotly, which must not be escaped inside <style> and <script>.
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()) if drawn else "",
    )


def _unbroken(function: Callable[..., str]) -> Callable[..., str]:
    """The same filter with percent signs that stay on the line of their number."""

    @wraps(function)
    def filtered(*arguments: Any, **options: Any) -> str:
        return function(*arguments, **options).replace(" %", "\u00a0%")

    return filtered


def figures(report: Report) -> dict[str, go.Figure]:
    """The charts that there is data for, by the id of their place on the page."""
    found: dict[str, go.Figure | None] = {}
    if report.profile:
        found["hot_ops"] = profile_charts.hot_ops(report.profile)
        found["roofline"] = roofline_chart.roofline(report.profile)
    found["forest"] = speed_charts.forest(report.speeds)
    found["promise"] = training_charts.promise(report.abs)
    for index, ab in enumerate(report.abs):
        found[f"ab{index}_speed"] = training_charts.process_ratios(ab)
        found[f"ab{index}_quality"] = training_charts.quality(ab)
        found[f"ab{index}_loss"] = training_charts.losses(ab)
        found[f"ab{index}_divergence"] = training_charts.divergence(ab)
    return {name: figure for name, figure in found.items() if figure is not None}


def _sections(report: Report) -> list[tuple[str, str]]:
    sections: list[tuple[str, str, Any]] = [
        ("machine", "Machine", True),
        ("hot", "Where the time goes", report.profile),
        ("speed", "Speed-ups", report.speeds),
        ("verify", "Verification", report.verifications),
        ("ab", "In the trainer", report.abs),
        ("history", "Promotions", report.events),
        ("campaign", "Last campaign", report.campaign),
        ("evidence", "Evidence", report.evidence),
        ("ledger", "Ledger", True),
    ]
    return [(name, title) for name, title, shown in sections if shown]


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [*report.machine.items(), *report.software.items()]
    facts += [("commit", report.commit or ""), ("dataset", report.dataset), ("device key", report.device_key)]
    return [(name, value) for name, value in facts if value]
