"""The ledger as a table: SQL questions over it, and exports.

One row per record. The scalar fields are text columns; kernel, device, software, workloads, seeds, settings, results
and artifacts are JSON columns (`results->>'$.ratio'`). Questions run on a copy with no access to files, so
nothing that is asked can change the evidence.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from autoresearch_common.files import replacing_file
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.results.record import Record

# How many records are copied at once, and how much memory a question may take.
ROWS, MOST_MEMORY = 2000, "512MB"
TEXT_COLUMNS = ("id", "prev", "time", "kind", "engine", "commit", "target", "verdict")
JSON_COLUMNS = ("kernel", "device", "software", "workloads", "seeds", "settings", "results", "artifacts")


@dataclass(frozen=True)
class Answer:
    """Columns and rows of a query; values are plain JSON-able Python."""

    columns: list[str]
    rows: list[list[Any]]

    def plain(self) -> dict[str, Any]:
        return {"columns": self.columns, "rows": self.rows}


def ask(sql: str, ledger: Iterable[Record], shipped: Iterable[Record] = ()) -> Answer:
    """Answer one SELECT over the tables `ledger` and `shipped`.

    Raises:
        LabError: not one SELECT, or it does not parse or fails; the message is DuckDB's.
    """
    folder = tempfile.TemporaryDirectory(prefix="kernel-lab-sql-")
    connection = duckdb.connect(f"{folder.name}/copy.duckdb", config={"memory_limit": MOST_MEMORY})
    try:
        _check_is_select(connection, sql)
        for name, records in (("ledger", ledger), ("shipped", shipped)):
            _load(connection, name, records)
        # After the copy is made: no files, no network, no extension, and no way to switch that on again.
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        cursor = connection.execute(sql)
        columns = [(str(column[0]), str(column[1]) == "JSON") for column in cursor.description or []]
        return Answer(
            [name for name, _ in columns],
            [
                [
                    json.loads(value) if is_json and value is not None else _plain(value)
                    for value, (_, is_json) in zip(row, columns, strict=True)
                ]
                for row in cursor.fetchall()
            ],
        )
    except duckdb.Error as error:
        raise LabError(f"SQL: {_first_line(error)}") from None
    finally:
        connection.close()
        folder.cleanup()


def _check_is_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise LabError(f"SQL: one SELECT at a time, not {len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise LabError(f"SQL: only SELECT is allowed, not {statements[0].type.name}; the ledger is append-only")


def _load(connection: duckdb.DuckDBPyConnection, name: str, records: Iterable[Record]) -> None:
    columns = [f'"{column}"' for column in ("schema", *TEXT_COLUMNS)]
    columns += [f'CAST("{column}" AS JSON) AS "{column}"' for column in JSON_COLUMNS]
    connection.register("rows_to_copy", table([]))
    connection.execute(f"CREATE TABLE {name} AS SELECT {', '.join(columns)} FROM rows_to_copy")
    for part in tables(records):
        connection.register("rows_to_copy", part)
        connection.execute(f"INSERT INTO {name} SELECT {', '.join(columns)} FROM rows_to_copy")
    connection.unregister("rows_to_copy")


def tables(records: Iterable[Record]) -> Iterator[pa.Table]:
    """The records as Arrow tables of ROWS each."""
    rest = iter(records)
    while part := [*islice(rest, ROWS)]:
        yield table(part)


def table(records: Iterable[Record]) -> pa.Table:
    """The records as one Arrow table: `schema` int64, everything else text; JSON columns hold JSON text or null."""
    plain = [record.plain() for record in records]
    columns: dict[str, pa.Array] = {"schema": pa.array([row["schema"] for row in plain], pa.int64())}
    for name in TEXT_COLUMNS:
        columns[name] = pa.array([row[name] for row in plain], pa.string())
    for name in JSON_COLUMNS:
        texts = [None if row[name] is None else json.dumps(row[name], sort_keys=True) for row in plain]
        columns[name] = pa.array(texts, pa.string())
    return pa.table(columns)


def export(records: Iterable[Record], path: Path) -> None:
    """Write the records to `path`; its suffix says how: .jsonl, .csv or .parquet.

    Raises:
        LabError: another suffix, or the file cannot be written. An older file is replaced only by a whole new one.
    """
    writers: dict[str, Callable[[Path], object]] = {
        ".jsonl": lambda to: _write_lines(records, to),
        ".csv": lambda to: _write_tables(pa.csv.CSVWriter(to, table([]).schema), records),
        ".parquet": lambda to: _write_tables(pa.parquet.ParquetWriter(to, table([]).schema), records),
    }
    if path.suffix not in writers:
        raise LabError(f"cannot export to {path.name}: use a name that ends in {', '.join(writers)}")
    with files_at_hand(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as new:
            writers[path.suffix](new)


def _write_lines(records: Iterable[Record], path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record.plain(), sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n")


def _write_tables(writer: Any, records: Iterable[Record]) -> None:
    with writer:
        for part in tables(records):
            writer.write_table(part)


def _plain(value: Any) -> Any:
    """As JSON holds it: numbers, text, booleans, null and nests of them stay, everything else becomes text."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
