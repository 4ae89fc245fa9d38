"""Reads the SQLite database that `nsys export` makes.

A kernel, copy or fill carries the correlation id of the API call that launched it (CUPTI_ACTIVITY_KIND_RUNTIME, which
holds the driver's calls, too), and that call its thread and time; push-pop ranges (NVTX_EVENTS) lie on threads,
start-end ranges on their process. Ids are unique within a process only. nsys leaves out tables that would be empty, and
older versions some columns; a table's name may end with a version (NVTX_EVENTS_V2).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.timeline import DeviceWork, Range, Thread, Timeline

# NVTX_EVENTS.eventType
PUSH_POP_RANGE, START_END_RANGE, DOMAIN = 59, 60, 75
# A global thread id is <hardware 8><VM 8><process 24><thread 24>; a global process id has zeros for the thread.
_THREAD_BITS = 24
_ID = (1 << _THREAD_BITS) - 1

_KERNEL, _COPY, _SET, _GRAPH = (f"CUPTI_ACTIVITY_KIND_{what}" for what in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"))
_CALL, _NVTX = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
# ENUM_CUDA_MEMCPY_OPER
_COPIES = {1: "host to device", 2: "device to host", 8: "device to device", 10: "peer to peer"}
_MIGRATIONS = {11: "host to device", 12: "device to host", 13: "device to device"}
# What PyTorch's emit_nvtx adds to the names of its ranges, and which of them are its own operators.
_DECORATION = re.compile(r"(?:, (?:stashed )?(?:seq|op_id|sizes|input_op_ids) = .*)$", re.DOTALL)
_SEQUENCE = re.compile(r"\bseq = (\d+)")
_OPERATOR = re.compile(r"(aten|autograd|c10|prims|profiler|torch|torch_\w+)::|\w+Backward\d*$")


def read(path: Path) -> Timeline:
    """The database's ranges, and what the devices did.

    Raises:
        LabError: the file is missing, is no database, or a table lacks a column that the schema promises.
    """
    if not path.is_file():
        raise LabError(f"trace-profile: {path} is not there")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda name: name.decode(errors="replace")
            return _Database(connection).timeline()
    except sqlite3.Error as error:
        raise LabError(f"trace-profile: {path} is not a database of nsys export ({error})") from None


class _Database:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        names = [row[0] for row in tables]
        self._tables = {name: {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')} for name in names}
        self._strings: dict[int, str] = dict(self._rows("StringIds", "id", "value"))
        self._remarks: list[str] = []

    def timeline(self) -> Timeline:
        work = self._work()
        ranges, operators = self._ranges(max((one.end for one in work), default=0))
        if self._named(_CALL) is None and work:
            self._remarks.append(f"the database has no table {_CALL}: which range launched what is not known")
        processes = self._rows("PROCESSES", "globalPid", "name")
        exported = dict(self._rows("META_DATA_EXPORT", "name", "value"))
        return Timeline(
            ranges,
            work,
            operators,
            dict(self._rows("TARGET_INFO_GPU", "id", "name")),
            {one >> _THREAD_BITS & _ID: name for one, name in processes if one is not None and name},
            exported.get("EXPORT_PRODUCT_VERSION"),
            self._remarks,
        )

    def _named(self, table: str) -> str | None:
        """The newest version of a table that has rows."""
        versions = {name: re.fullmatch(re.escape(table) + r"(?:_V(\d+))?", name) for name in self._tables}
        found = sorted(((int(match[1] or 1), name) for name, match in versions.items() if match), reverse=True)
        for _, name in found:
            if self._connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone():
                return name
        return found[0][1] if found else None

    def _rows(self, table: str, *columns: str, optional: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """`columns`, then `optional` ones (None where the table lacks them), of all rows; none without the table."""
        name = self._named(table)
        if name is None:
            return iter(())
        known = self._tables[name]
        # A quoted name that is no column would be read as text.
        if missing := set(columns) - known:
            raise sqlite3.OperationalError(f"{name} has no column {', '.join(sorted(missing))}")
        wanted = [f'"{one}"' for one in columns] + [f'"{one}"' if one in known else "NULL" for one in optional]
        return self._connection.execute(f'SELECT {", ".join(wanted)} FROM "{name}"')

    def _ranges(self, last: int) -> tuple[list[Range], list[Range]]:
        """(the user's, PyTorch's operators). last: when the trace ends, and with it every range that was still open."""
        optional = ("text", "textId", "domainId")
        rows = list(self._rows(_NVTX, "start", "end", "eventType", "globalTid", optional=optional))
        domains = {
            (thread and thread >> _THREAD_BITS, domain): text or self._strings.get(text_id)
            for _, _, kind, thread, text, text_id, domain in rows
            if kind == DOMAIN
        }
        names: dict[Any, tuple[str, bool]] = {}
        threads: dict[Any, Thread] = {}
        ranges, operators = [], []
        nameless = 0
        for start, end, kind, thread, text, text_id, domain in rows:
            if kind not in (PUSH_POP_RANGE, START_END_RANGE) or thread is None or start is None:
                continue
            name = text if text is not None else self._strings.get(text_id)
            if name is None:
                nameless += 1
                continue
            if name not in names:
                plain = _DECORATION.sub("", name)
                names[name] = (plain, plain != name and _OPERATOR.match(plain) is not None)
            plain, is_operator = names[name]
            if prefix := domains.get((thread >> _THREAD_BITS, domain)):
                plain = f"{prefix}: {plain}"
            key = thread if kind == PUSH_POP_RANGE else (thread >> _THREAD_BITS, None)
            if key not in threads:
                process = thread >> _THREAD_BITS & _ID
                threads[key] = (process, thread & _ID if kind == PUSH_POP_RANGE else None)
            end = max(start, last) if end is None else end
            if is_operator:
                backward = plain.startswith("autograd::") or "Backward" in plain
                number = _SEQUENCE.search(name)
                operators.append(Range(plain, threads[key], start, end, int(number[1]) if number else None, backward))
            else:
                ranges.append(Range(plain, threads[key], start, end))
        if nameless:
            self._remarks.append(f"{nameless} NVTX ranges have no name (StringIds lacks them): they are left out")
        return ranges, operators

    def _work(self) -> list[DeviceWork]:
        calls: dict[tuple[int | None, int], tuple[int, int]] = {}
        shared: set[int] = set()
        # Asked for by processes that say which they are; by those that do not, only where no table says it.
        tables = (_KERNEL, _COPY, _SET, _GRAPH)
        placed = all("globalPid" in self._tables[name] for name in map(self._named, tables) if name)
        for start, thread, correlation in self._rows(_CALL, "start", "globalTid", "correlationId"):
            if thread is None or correlation is None or start is None:
                continue
            key = (thread >> _THREAD_BITS if placed else None, correlation)
            if not placed and key in calls and calls[key][0] >> _THREAD_BITS != thread >> _THREAD_BITS:
                shared.add(correlation)
            if (known := calls.get(key)) is None or start < known[1]:
                calls[key] = (thread, start)
        if shared:
            text = "correlation ids are used by several processes, and the work does not say whose it is"
            self._remarks.append(f"{len(shared)} {text}: it is not attributed")
        threads: dict[int, Thread] = {}
        found: list[DeviceWork] = []
        endless = 0
        within_graphs = set()
        common = ("start", "end", "correlationId")
        optional = ("globalPid", "deviceId", "streamId", "demangledName", "shortName", "copyKind", "graphNodeId")
        for table, kind in zip(tables, ("kernel", "copy", "set", "graph"), strict=True):
            for start, end, correlation, owner, device, stream, long, short, copy, node in self._rows(
                table, *common, optional=optional
            ):
                if start is None or end is None:
                    endless += 1
                    continue
                process: int | None = None if owner is None else owner >> _THREAD_BITS
                if node:
                    within_graphs.add((process, correlation))
                elif kind == "graph" and (process, correlation) in within_graphs:
                    continue  # its kernels are there one by one
                sort = "migration" if copy in _MIGRATIONS else kind
                if kind == "kernel":
                    name = self._strings.get(long) or self._strings.get(short) or "unnamed kernel"
                elif kind == "copy":
                    name = f"{sort} {(_COPIES | _MIGRATIONS).get(copy, '')}".strip()
                else:
                    name = "fill" if kind == "set" else "CUDA graph"
                thread = launched = None
                by = None if correlation in shared else calls.get((process if placed else None, correlation))
                if by is not None:
                    number, launched = by
                    if number not in threads:
                        threads[number] = (number >> _THREAD_BITS & _ID, number & _ID)
                    thread = threads[number]
                used_by = thread[0] if thread else process if process is None else process & _ID
                call = None if by is None else correlation
                found.append(
                    DeviceWork(name, sort, start, end, end - start, thread, launched, used_by, device, stream, call)
                )
        if endless:
            self._remarks.append(f"{endless} pieces of the device's work have no end: they are left out")
        if any(one.kind == "graph" for one in found):
            self._remarks.append("CUDA graphs are one piece each (--cuda-graph-trace=node shows their kernels)")
        return found
