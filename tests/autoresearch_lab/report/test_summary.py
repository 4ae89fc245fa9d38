"""The table at the end of a run, and which A/B tells the story."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from autoresearch_lab.ab.outcome import over, title
from autoresearch_lab.report import sources, terminal
from autoresearch_lab.report.summary import summary
from autoresearch_lab.report.target import evidence_of

JOINT = "rms_norm=cpp_fused + softcap_cross_entropy=cpp_fused"


def rendered(show: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console)
    return console.file.getvalue()


def test_the_table_holds_verdicts_promotions_and_the_gain(full: Any) -> None:
    table = summary(full.lab, full.context)
    text = rendered(table.render)
    assert table.promoted == {"rms_norm": "cpp_fused", "softcap_cross_entropy": "cpp_fused"}
    assert [row.target for row in table.rows if row.promoted] == ["softcap_cross_entropy", "rms_norm"]
    assert "6.20× [6.11, 6.29]" in text and "15,633 → 26,420" in text and "+69.0 %" in text
    failed = next(row for row in table.rows if row.target == "windowed_attention")
    assert (failed.verify, failed.failed, failed.bench) == ("FAIL", "accuracy", None)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert json.loads(json.dumps(table.plain())) == table.plain()


def test_the_story_is_the_joint_ab_of_what_is_promoted(full: Any) -> None:
    told = summary(full.lab, full.context).story
    assert told is not None and (title(told), over(told)) == (JOINT, ())
    full.ab(["relu_squared"], 1.2, over=("softcap_cross_entropy", "rms_norm"))
    assert summary(full.lab, full.context).story == told


def test_without_a_joint_ab_the_story_says_what_it_stands_on(empty: Any) -> None:
    empty.promote("rope", empty.ab(["rope"], 1.5).id)
    empty.promote("rms_norm", empty.ab(["rms_norm"], 1.1, over=("rope",)).id)
    told = summary(empty.lab, empty.context).story
    assert told is not None and (title(told), over(told)) == ("rms_norm=cpp_fused", ("rope=cpp_fused",))


def test_stale_evidence_is_left_out(full: Any) -> None:
    (full.root.kernels / "softcap_cross_entropy" / "cpp_fused.py").write_text("# edited\n")
    table = summary(full.lab, full.context)
    assert "softcap_cross_entropy" not in [row.target for row in table.rows]
    assert table.promoted == {"rms_norm": "cpp_fused"}
    assert table.story is not None and title(table.story) == "rms_norm=cpp_fused"


def test_an_empty_ledger_gives_an_empty_table(empty: Any) -> None:
    table = summary(empty.lab, empty.context)
    assert (table.rows, table.story, table.promoted, table.report) == ([], None, {}, None)
    assert "nothing" in rendered(table.render)


def test_evidence_of_a_target_marks_what_is_in_use_and_what_is_stale(full: Any) -> None:
    found = sources.read(full.lab, full.context)
    known = evidence_of(found, full.targets["rms_norm"])
    text = rendered(lambda console: terminal.print_evidence(console, known))
    in_use = [kernel.name for kernel in known.kernels if kernel.in_use]
    assert in_use == ["cpp_fused"] and "PROMOTE" in text and "counts" not in text
    (full.root.kernels / "rms_norm" / "cpp_fused.py").write_text("# edited\n")
    found = sources.read(full.lab, full.context)
    text = rendered(lambda console: terminal.print_evidence(console, evidence_of(found, full.targets["rms_norm"])))
    assert text.count("stale: kernel changed") == 4
