"""The report as one HTML file: styles, script, charting library and data inside, so that it opens anywhere, offline."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autoresearch_lab import format as form
from autoresearch_lab.ab import outcome
from autoresearch_lab.report import brief
from autoresearch_lab.report.charts import profile as profile_charts
from autoresearch_lab.report.charts import roofline as roofline_chart
from autoresearch_lab.report.charts import speed as speed_charts
from autoresearch_lab.report.charts import training as training_charts
from autoresearch_lab.report.gates import gate_rows
from autoresearch_lab.report.views import ReportView

TEMPLATES = Path(__file__).parent / "templates"
# How a check ended: its mark, and the name of its colour in report.css.
MARKS = {"pass": ("✓", "pass"), "fail": ("✗", "fail"), "not applicable": ("–", "na"), "skipped": ("·", "skip")}
FILTERS = (
    form.number, form.times_interval, form.percent, form.percent_interval, form.share, form.gain_interval, form.signed,
    form.signed_interval, form.signed_bounds, form.bpb, form.milliseconds, form.moment, form.short, form.level,
    form.tone, outcome.subject, outcome.outcome, brief.brief,
)  # fmt: skip


def render(report: ReportView) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: _unbroken(function) for function in FILTERS})
    environment.filters["unbroken"] = _unbroken(str)
    drawn = figures(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        figures={name: figure.to_dict() for name, figure in drawn.items()},
        sections=_sections(report),
        facts=_facts(report),
        checks=list(dict.fromkeys(c.name for shown in report.verifications for c in shown.record.results.checks)),
        marks=MARKS,
        judged=brief.subject,
        failed_check=brief.failed_check,
        told=outcome,
        gate_rows=gate_rows,
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


def figures(report: ReportView) -> dict[str, go.Figure]:
    """The charts that there is data for, by the id of their place on the page."""
    found: dict[str, go.Figure | None] = {}
    if report.profile:
        found["hot_ops"] = profile_charts.hot_ops(report.profile.record.results)
        found["roofline"] = roofline_chart.roofline(report.profile.record.results)
    found["forest"] = speed_charts.forest(report.speeds)
    found["promise"] = training_charts.promise([source.record for source in report.abs])
    for index, ab in enumerate(source.record for source in report.abs):
        found[f"ab{index}_speed"] = training_charts.process_ratios(ab)
        found[f"ab{index}_quality"] = training_charts.quality(ab)
        found[f"ab{index}_loss"] = training_charts.losses(ab)
        found[f"ab{index}_divergence"] = training_charts.divergence(ab)
    return {name: figure for name, figure in found.items() if figure is not None}


def _sections(report: ReportView) -> list[tuple[str, str]]:
    sections: list[tuple[str, str, Any]] = [
        ("machine", "Machine", True),
        ("hot", "Where the time goes", report.profile),
        ("speed", "Speed-ups", report.speeds),
        ("verify", "Verification", report.verifications),
        ("ab", "In the trainer", report.abs),
        ("history", "Promotions", report.promotions),
        ("campaign", "Last campaign", report.campaign),
        ("evidence", "Evidence", report.evidence),
        ("ledger", "Ledger", True),
    ]
    return [(name, title) for name, title, shown in sections if shown]


def _facts(report: ReportView) -> list[tuple[str, str]]:
    facts = [*report.machine.items(), *report.software.items()]
    facts += [("commit", report.commit or ""), ("dataset", report.dataset), ("device key", report.device_key)]
    return [(name, value) for name, value in facts if value]
