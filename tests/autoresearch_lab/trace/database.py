"""A database as `nsys export` writes it: the tables and columns of its documented schema that matter here."""

import sqlite3
from contextlib import closing

MS = 1_000_000
# <hardware 8><VM 8><process 24><thread 24>
PROCESS = (1 << 56) | (4242 << 24)
MAIN, AUTOGRAD = PROCESS | 1, PROCESS | 2
OTHER_PROCESS = (1 << 56) | (4243 << 24)

SCHEMA = {
    "StringIds": "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL",
    "NVTX_EVENTS": "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT, globalTid INTEGER, "
    "endGlobalTid INTEGER, textId INTEGER, domainId INTEGER",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, "
    "globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start INTEGER NOT NULL, end INTEGER, deviceId INTEGER NOT NULL, "
    "streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER NOT NULL, "
    "shortName INTEGER NOT NULL",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, "
    "streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL, "
    "copyKind INTEGER NOT NULL",
    "CUPTI_ACTIVITY_KIND_MEMSET": "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, "
    "streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, value INTEGER NOT NULL, "
    "bytes INTEGER NOT NULL",
}


class Database:
    """Fills the tables; times in ms. Tables that stay empty are left out, as nsys does."""

    def __init__(self):
        self.strings, self.rows, self.calls = {}, {name: [] for name in SCHEMA}, 0

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings) + 1)

    def range(self, name, start, end, thread=MAIN, registered=False, kind=59):
        """registered: as NVTX keeps the messages of its domains, by id."""
        text, text_id = (None, self.string(name)) if registered else (name, None)
        end = None if end is None else int(end * MS)
        self.rows["NVTX_EVENTS"].append((int(start * MS), end, kind, text, thread, None, text_id, 0))

    def _launch(self, at, thread, process):
        self.calls += 1
        name = self.string("cuLaunchKernelEx")
        if thread is not None:
            row = (int(at * MS), int(at * MS) + 10, 1, thread, self.calls, name, 0)
            self.rows["CUPTI_ACTIVITY_KIND_RUNTIME"].append(row)
        return (0, 7, self.calls, process)

    def kernel(self, name, launched, start, end, thread=MAIN, process=PROCESS, device=0):
        """thread None: no call of the API is known for it. end None: it was running when the trace ended."""
        names = (self.string(f"void {name}<float>()"), self.string(name))
        end = None if end is None else int(end * MS)
        about = (int(start * MS), end, device, *self._launch(launched, thread, process)[1:], *names)
        self.rows["CUPTI_ACTIVITY_KIND_KERNEL"].append(about)

    def copy(self, launched, start, end, thread=MAIN, kind=1):
        about = (int(start * MS), int(end * MS), *self._launch(launched, thread, PROCESS), 4096, kind)
        self.rows["CUPTI_ACTIVITY_KIND_MEMCPY"].append(about)

    def fill(self, launched, start, end, thread=MAIN):
        about = (int(start * MS), int(end * MS), *self._launch(launched, thread, PROCESS), 0, 4096)
        self.rows["CUPTI_ACTIVITY_KIND_MEMSET"].append(about)

    def write(self, path, without=(), renamed=()):
        """renamed: tables whose names end with a version."""
        self.rows["StringIds"] = [(number, text) for text, number in self.strings.items()]
        with closing(sqlite3.connect(path)) as connection, connection:
            for table, columns in SCHEMA.items():
                rows = self.rows[table]
                if not rows or table in without:
                    continue
                table += "_V2" if table in renamed else ""
                connection.execute(f"CREATE TABLE {table} ({columns})")
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        return path


def two_steps():
    """Two steps of 10 ms. In each: rope (1 ms) in qk_prelude (2 ms and a fill of 0.25), rope's backward on autograd's
    thread (2 ms), a kernel of muon_update (1 ms), and outside all targets a kernel (0.5) and a copy (0.5)."""
    base = Database()
    for zero in (0.0, 10.0):
        base.range("training step", zero, zero + 10.0, registered=True)
        base.range("forward", zero, zero + 3.0)
        base.range("qk_prelude", zero + 0.1, zero + 2.0)
        base.range("rope", zero + 0.2, zero + 1.0, registered=True)
        base.range("backward", zero + 3.0, zero + 6.0)
        base.range("rope backward", zero + 3.1, zero + 3.4, thread=AUTOGRAD)
        base.range("optimizer", zero + 6.0, zero + 9.0)
        base.range("muon_update", zero + 6.1, zero + 7.0)
        base.kernel("rotate", zero + 0.5, zero + 0.6, zero + 1.6)
        base.kernel("normalise", zero + 1.5, zero + 1.6, zero + 3.6)
        base.fill(zero + 1.6, zero + 3.6, zero + 3.85)
        base.kernel("rotate_back", zero + 3.2, zero + 4.0, zero + 6.0, thread=AUTOGRAD)
        base.kernel("gemm", zero + 3.5, zero + 6.0, zero + 6.5, thread=AUTOGRAD)
        base.kernel("polar", zero + 6.5, zero + 6.6, zero + 7.6)
        base.copy(zero + 9.5, zero + 9.5, zero + 10.0)
    base.kernel("set_up", 25.0, 25.0, 30.0)  # after the last step
    return base
