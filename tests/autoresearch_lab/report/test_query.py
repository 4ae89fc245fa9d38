"""SQL over the ledger: answers, refusals, exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.report import query


@pytest.fixture
def filled(empty: Any) -> Any:
    empty.profile()
    empty.bench("rms_norm", 2.3, "FASTER")
    empty.bench("rope", 1.0, "SAME")
    return empty


def test_nested_fields_can_be_asked_for(filled: Any) -> None:
    answer = query.ask(
        "SELECT target, kernel->>'name' AS kernel, (results->>'ratio')::DOUBLE AS ratio FROM ledger "
        "WHERE kind = 'bench' ORDER BY ratio DESC",
        filled.ledger.records(),
    )
    assert answer.columns == ["target", "kernel", "ratio"]
    assert answer.rows == [["rms_norm", "cpp_fused", 2.3], ["rope", "cpp_fused", 1.0]]


def test_json_columns_come_back_as_data_and_the_answer_is_json(filled: Any) -> None:
    answer = query.ask("SELECT kernel, settings, prev FROM ledger WHERE target = 'rope'", filled.ledger.records())
    assert answer.rows[0][0]["name"] == "cpp_fused"
    assert json.loads(json.dumps(answer.plain())) == answer.plain()


def test_shipped_evidence_is_a_table_of_its_own(filled: Any) -> None:
    records = filled.ledger.records()
    answer = query.ask("SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM shipped)", records[:1], records[1:])
    assert answer.rows == [[1, 2]]


def test_an_empty_ledger_has_the_columns() -> None:
    assert query.ask("SELECT id, results FROM ledger", []).rows == []


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC kind FROM ledger", "syntax error"),
        ("SELECT nothing_like_it FROM ledger", "nothing_like_it"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("", "one SELECT"),
        ("DROP TABLE ledger", "append-only"),
        ("INSERT INTO ledger SELECT * FROM ledger", "append-only"),
        ("COPY ledger TO '/tmp/ledger.csv'", "append-only"),
        ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT 'x'::INTEGER", "x"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(filled: Any, sql: str, words: str) -> None:
    with pytest.raises(LabError) as refused:
        query.ask(sql, filled.ledger.records())
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_exports_hold_every_record(filled: Any, tmp_path: Path) -> None:
    records = filled.ledger.records()
    for suffix in ("jsonl", "csv", "parquet"):
        query.export(records, tmp_path / "out" / f"ledger.{suffix}")
    assert Ledger(tmp_path / "out" / "ledger.jsonl").records() == records
    assert Ledger(tmp_path / "out" / "ledger.jsonl").problems() == []
    for table in (
        pyarrow.parquet.read_table(tmp_path / "out" / "ledger.parquet"),
        pyarrow.csv.read_csv(tmp_path / "out" / "ledger.csv"),
    ):
        assert table["id"].to_pylist() == [record.id for record in records]
        assert json.loads(table["results"][1].as_py())["ratio"] == 2.3


def test_a_bad_export_leaves_the_old_file(filled: Any, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="jsonl, .csv, .parquet"):
        query.export(filled.ledger.records(), tmp_path / "ledger.xlsx")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match="cannot write"):
        query.export(filled.ledger.records(), tmp_path / "file" / "ledger.csv")
    assert (tmp_path / "file").read_text() == "in the way"
