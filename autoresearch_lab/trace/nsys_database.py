"""Reads the SQLite database that `nsys export` makes.

A kernel, copy or fill carries the correlation id of the API call that launched it (CUPTI_ACTIVITY_KIND_RUNTIME, which
holds the driver's calls, too), and that call its thread and time; push-pop ranges (NVTX_EVENTS) lie on threads. Ids are
unique within a process only. nsys leaves out tables that would be empty, and older versions some columns.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.timeline import DeviceWork, Range, Timeline

PUSH_POP_RANGE = 59  # NVTX_EVENTS.eventType
# A global thread id is <hardware 8><VM 8><process 24><thread 24>; a global process id has zeros for the thread.
_THREAD_BITS = 24

_KERNEL, _COPY, _SET, _GRAPH = (f"CUPTI_ACTIVITY_KIND_{what}" for what in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"))
_CALL = "CUPTI_ACTIVITY_KIND_RUNTIME"
# ENUM_CUDA_MEMCPY_OPER
_COPIES = {1: "host to device", 2: "device to host", 8: "device to device", 10: "peer to peer"}


def read(path: Path) -> Timeline:
    """The database's ranges, and what the devices did.

    Raises:
        LabError: the file is missing, is no database, or a table lacks a column that the schema promises.
    """
    if not path.is_file():
        raise LabError(f"trace-profile: {path} is not there")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = _tables(connection)
            strings = dict(_rows(connection, tables, "StringIds", "id", "value"))
            work = _work(connection, tables, strings)
            return Timeline(_ranges(connection, tables, strings, max((one.end for one in work), default=0)), work)
    except sqlite3.Error as error:
        raise LabError(f"trace-profile: {path} is not a database of nsys export ({error})") from None


def _tables(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """{table: its columns}."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    return {name: {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')} for name in names}


def _rows(
    connection: sqlite3.Connection,
    tables: dict[str, set[str]],
    table: str,
    *columns: str,
    optional: tuple[str, ...] = (),
) -> list[tuple[Any, ...]]:
    """`columns`, then `optional` ones (None where the table lacks them), of all rows; none where there is no table."""
    if table not in tables:
        return []
    wanted = [f'"{name}"' for name in columns] + [f'"{n}"' if n in tables[table] else "NULL" for n in optional]
    # A quoted name that is no column would be read as text.
    if missing := set(columns) - tables[table]:
        raise sqlite3.OperationalError(f"{table} has no column {', '.join(sorted(missing))}")
    return connection.execute(f'SELECT {", ".join(wanted)} FROM "{table}"').fetchall()


def _ranges(
    connection: sqlite3.Connection, tables: dict[str, set[str]], strings: dict[int, str], last: int
) -> list[Range]:
    """last: when the trace ends, and with it every range that was still open."""
    rows = _rows(
        connection, tables, "NVTX_EVENTS", "start", "end", "eventType", "globalTid", optional=("text", "textId")
    )
    found = []
    for start, end, kind, thread, text, text_id in rows:
        name = text if text is not None else strings.get(text_id)
        if kind == PUSH_POP_RANGE and name is not None:
            found.append(Range(name, thread, start, max(start, last) if end is None else end))
    return found


def _work(connection: sqlite3.Connection, tables: dict[str, set[str]], strings: dict[int, str]) -> list[DeviceWork]:
    calls: dict[tuple[int | None, int], tuple[int, int]] = {}
    for start, thread, correlation in _rows(connection, tables, _CALL, "start", "globalTid", "correlationId"):
        if thread is None or correlation is None:
            continue
        # Asked for by processes that say which they are, and by those that do not.
        keys: tuple[tuple[int | None, int], ...] = ((thread >> _THREAD_BITS, correlation), (None, correlation))
        for key in keys:
            if key not in calls or start < calls[key][1]:
                calls[key] = (thread, start)

    found = []
    common, optional = ("start", "end", "correlationId"), ("globalPid", "demangledName", "shortName", "copyKind")
    for table, kind in ((_KERNEL, "kernel"), (_COPY, "copy"), (_SET, "set"), (_GRAPH, "graph")):
        for start, end, correlation, process, long, short, copy in _rows(
            connection, tables, table, *common, optional=optional
        ):
            named = {
                "kernel": strings.get(long) or strings.get(short) or "unnamed kernel",
                "copy": f"copy {_COPIES.get(copy, '')}".strip(),
                "set": "fill",
                "graph": "CUDA graph",
            }
            by = calls.get((None if process is None else process >> _THREAD_BITS, correlation)) or (None, None)
            found.append(DeviceWork(named[kind], kind, start, end, end - start, *by))
    return found
