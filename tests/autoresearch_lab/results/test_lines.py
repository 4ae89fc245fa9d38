"""Lines of earlier versions are read and judged by the one rule; today's schema is the one in the docs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.evidence import Present, differences
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.report.sources import read
from autoresearch_lab.results import lines, schema
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record, VerifyRecord

# Written by the version before schema 2: a real lab up to its first bench, and an A/B with planted engines, promoted
# and taken back.
SCHEMA1 = Path(__file__).with_name("schema1")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("measured", ["CeilingsRecord", "ProfileRecord", "WorkspaceRecord", "VerifyRecord", "BenchRecord"]),
        ("decided", ["VerifyRecord", "BenchRecord", "AbRecord", "PromoteRecord", "DemoteRecord"]),
    ],
)
def test_an_old_ledger_is_read_and_its_chain_still_holds(name: str, classes: list[str]) -> None:
    ledger = Ledger(SCHEMA1 / f"{name}.jsonl")
    assert [type(record).__name__ for record in ledger.records()] == classes
    assert ledger.problems() == []
    written = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [record.plain() for record in ledger.records()] == written


def test_what_an_old_line_says_is_found_in_todays_fields() -> None:
    verify, bench = (Ledger(SCHEMA1 / "measured.jsonl").find(of)[0] for of in (VerifyRecord, BenchRecord))
    assert verify.results.checks[0].name == "loads" and verify.results.checks[2].counted.endswith(" calls")
    assert verify.settings.baseline.name == "torch_eager" and verify.seeds.drawn
    assert bench.results.workloads[0].whole.ratio > 1 and bench.settings.verify == verify.id
    [decided] = Ledger(SCHEMA1 / "decided.jsonl").find(AbRecord)
    assert decided.results.gates["speed"].passed and decided.results.processes[0].ratio > 1


def test_old_evidence_is_treated_by_the_one_rule() -> None:
    """It counts where everything that it rests on is the same, and stops counting when one thing is another."""
    [bench] = Ledger(SCHEMA1 / "measured.jsonl").find(BenchRecord)
    here = Context(ENGINES["cpu"], dict(bench.device), dict(bench.software))
    assert differences(bench, Present(here)) == []
    assert differences(bench, Present(Context(ENGINES["cpu"], {**bench.device, "key": "x"}, here.software))) != []
    other = {bench.target: frozenset({"0" * 64})}
    assert differences(bench, Present(here, workloads=other)) == ["other workloads than the newest profile's"]


def test_the_report_shows_old_records(tmp_path: Path) -> None:
    lab = Lab(Root(tmp_path))
    lab.root.kernels.symlink_to(Root().kernels)
    lab.root.ledger.parent.mkdir(parents=True)
    shutil.copy(SCHEMA1 / "measured.jsonl", lab.root.ledger)
    found = read(lab, None)
    assert [source.record.verdict for source in found.newest(VerifyRecord)] == ["PASS"]
    assert set(load_catalog(lab.root)) >= {record.target for record in found.records if record.target}


def test_a_new_record_goes_on_behind_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    shutil.copy(SCHEMA1 / "decided.jsonl", path)
    ledger = Ledger(path)
    added = ledger.append("note", settings={"event": "failed", "step": "bench"}, results={"reason": "none"})
    assert added.prev == ledger.records()[-2].id and ledger.problems() == []
    assert [json.loads(line)["schema"] for line in path.read_text().splitlines()] == [1] * 5 + [2]


def test_what_no_type_of_today_can_hold_is_kept_and_never_counts() -> None:
    line = json.loads((SCHEMA1 / "decided.jsonl").read_text().splitlines()[2])
    record = lines.read({**line, "settings": {**line["settings"], "candidate": "several"}})
    assert type(record) is Record and record.unread and record.verdict == line["verdict"]
    assert differences(record, Present(None)) == ["of an earlier version, whose content this one cannot read"]


@pytest.mark.parametrize("broken", [{"schema": 3}, {"kind": "guess"}, {"schema": 2}])
def test_a_line_that_is_no_record_is_refused(broken: dict[str, object]) -> None:
    line = json.loads((SCHEMA1 / "measured.jsonl").read_text().splitlines()[3])
    with pytest.raises(ValueError):
        lines.read({**line, **broken})


def test_the_schema_in_the_docs_is_that_of_the_types() -> None:
    """Field by field; how pydantic words the rest differs between its versions."""

    def fields(text: str) -> dict[str, tuple[list[str], list[str]]]:
        found = json.loads(text)["$defs"]
        return {
            name: (sorted(one.get("properties", ())), sorted(one.get("required", ()))) for name, one in found.items()
        }

    assert fields(schema.DOCUMENT.read_text(encoding="utf-8")) == fields(schema.schema())
