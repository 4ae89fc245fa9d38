"""The page: whole, self-contained, escaped, and honest about what there is."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.errors import LabError
from autoresearch_lab.report.collect import collect
from autoresearch_lab.report.page import TEMPLATES, figures, render
from autoresearch_lab.report.write import write_report

FIELDS = (
    "schema", "id", "prev", "time", "kind", "engine", "device", "software", "commit", "target", "kernel", "workloads",
    "seeds", "settings", "results", "verdict", "artifacts",
)  # fmt: skip
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Text, ids and addresses of a page; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            assert given["id"] not in self.ids, given["id"]
            self.ids.add(str(given["id"]))
        for name in ("src", "href"):
            value = given.get(name)
            if value and value.startswith("#"):
                self.anchors.add(value[1:])
            elif value:
                self.addresses.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def page_of(lab: Any) -> tuple[str, Page]:
    html = render(collect(lab.lab, lab.context))
    return html, Page(html)


def test_every_section_is_there_and_every_chart_has_its_place(full: Any) -> None:
    html, page = page_of(full)
    assert {"machine", "hot", "speed", "verify", "ab", "history", "evidence", "ledger"} <= page.ids
    assert page.anchors <= page.ids
    drawn = figures(collect(full.lab, full.context))
    assert {"hot_ops", "roofline", "forest", "promise", "ab0_speed", "ab0_quality", "ab0_divergence"} <= set(drawn)
    assert set(drawn) <= page.ids
    embedded = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert embedded and set(json.loads(embedded[1])) == set(drawn)


def test_nothing_is_fetched_from_anywhere(full: Any) -> None:
    html, page = page_of(full)
    assert page.addresses == ["data:,"]
    assert (
        "@import" not in (TEMPLATES / "report.css").read_text() and "url(" not in (TEMPLATES / "report.css").read_text()
    )
    assert html.count("plotly.js v") == 1


def test_text_from_records_is_escaped(empty: Any) -> None:
    empty.verify("rope", failed="accuracy", reason="<script>alert(1)</script>")
    html, page = page_of(empty)
    assert "<script>alert" not in html
    assert "<script>alert(1)</script>" in page.text


def test_colours_of_the_charts_exist_in_both_schemes(full: Any) -> None:
    css = (TEMPLATES / "report.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    used = set()
    for figure in figures(collect(full.lab, full.context)).values():
        used |= set(re.findall(r"var\((--[a-z-]+)\)", figure.to_json()))
    assert used
    for name in used - {"--sans"}:
        assert f"{name}:" in light and f"{name}:" in dark.split("}")[0], name


def test_an_empty_ledger_says_what_to_run(empty: Any) -> None:
    html, page = page_of(empty)
    assert "make lab" in page.text and "orchestrate" in page.text
    assert len(html) < 60_000  # without charts there is no charting library


def test_numbers_are_those_of_the_records(full: Any) -> None:
    _, page = page_of(full)
    assert "6.20× [6.11, 6.29]" in page.text
    assert "15,633 tokens/s" in page.text


def test_stale_evidence_is_marked(full: Any) -> None:
    (full.root.kernels / "rope" / "cpp_fused.py").write_text("# edited\n")
    _, page = page_of(full)
    assert "stale: kernel changed" in page.text


def test_a_broken_chain_is_said_on_the_page(full: Any) -> None:
    path = full.ledger.path
    path.write_text(path.read_text().replace('"rope"', '"rosa"', 1))
    _, page = page_of(full)
    assert "does not hold" in page.text and "was changed after it was written" in page.text


def test_records_with_missing_numbers_are_shown_as_they_are(empty: Any) -> None:
    kernel = {"name": "cpp_fused", "sha256": "0" * 64}
    for kind, verdict in (("verify", "PASS"), ("bench", "AMBIGUOUS"), ("ab", "UNDECIDED")):
        empty.ledger.append(kind, target="rope", kernel=kernel, verdict=verdict)
    empty.ledger.append("profile", settings={"preset": "cpu-nano"}, results={"preset": "cpu-nano", "step_ms": 1.0})
    _, page = page_of(empty)
    assert "AMBIGUOUS" in page.text and "nan" not in page.text.lower().split()


def test_records_of_an_earlier_version_are_listed_with_the_reason_why_they_do_not_count(empty: Any) -> None:
    kernel = {"name": "cpp_fused", "sha256": "0" * 64}
    kinds = {"verify": "PASS", "bench": "SLOWER", "ab": "UNDECIDED", "promote": None, "demote": None, "profile": None}
    lines, previous = [], None
    for kind, verdict in kinds.items():
        line = dict.fromkeys(FIELDS) | {"schema": 1, "prev": previous, "time": "2026-01-01T00:00:00+00:00"}
        line |= {"kind": kind, "target": "rope", "kernel": kernel, "verdict": verdict}
        line |= {"settings": {"rule": "of then"}, "results": {"targets": [{"target": "rope"}]}}
        del line["id"]
        previous = json_sha256(line)
        lines.append(json.dumps(line | {"id": previous}))
    empty.ledger.path.parent.mkdir(parents=True)
    empty.ledger.path.write_text("".join(f"{line}\n" for line in lines))
    assert {record.kind for record in empty.ledger.records() if record.unread} >= {"ab", "promote", "profile"}
    _, page = page_of(empty)
    assert "SLOWER" in page.text and "UNDECIDED" in page.text
    assert page.text.count("of an earlier version, whose content this one cannot read") >= 4


def test_shipped_evidence_is_shown_as_shipped(empty: Any) -> None:
    empty.bench("rope", 3.0, "FASTER")
    empty.root.shipped.mkdir(parents=True)
    empty.ledger.path.rename(empty.root.shipped / "example-gpu.jsonl")
    _, page = page_of(empty)
    assert "shipped" in page.text and "3.00× [" in page.text


def test_writing_replaces_the_file_or_says_why_not(full: Any, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.html"
    size = write_report(full.lab, full.context, target)
    assert target.stat().st_size == size and list(target.parent.iterdir()) == [target]
    with pytest.raises(LabError, match="cannot write"):
        write_report(full.lab, full.context, target / "below" / "report.html")
