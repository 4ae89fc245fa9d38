"""results.tsv: one line per training run, in the columns that the research loop keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from autoresearch_common.reading import BadFile, read_text
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.paths import writable_folder
from autoresearch_lab.repository import commit_of

# For as long as it takes to write a line; the run itself is in run.json.
LOCK_SECONDS = 10.0
HEADER = ("commit", "val_bpb", "memory_gb", "status", "description")
# Of runs of train.py; a trial writes what became of its side b.
STATUS = {"complete": "done", "interrupted": "interrupted", "failed": "crash"}
# The folder of the last run that only tried whether everything works: none of those that are compared.
SMOKE_RUN = "smoke"
DECISIONS = ("keep", "discard", "crash")


def check_table(path: Path) -> None:
    """Whether a line could be appended; to be asked before a long run.

    Raises:
        LabError: the file cannot be written, or holds something else.
    """
    writable_folder(path.parent, "table of runs")
    try:
        first = read_text(path).partition("\n")[0] if path.exists() else ""
    except (OSError, BadFile) as error:
        raise LabError(f"cannot append to {path}: {error}") from None
    if first and first.split("\t") != list(HEADER):
        raise LabError(f"{path} is not a table of runs: its first line must be {' '.join(HEADER)}")


@dataclass(frozen=True)
class Row:
    """One line: the commit's first seven digits, with a + where files differed; val_bpb, None where there is none."""

    commit: str
    val_bpb: float | None
    memory_mb: float
    status: str
    description: str

    def line(self) -> str:
        """A crash without a val_bpb has zeros, as the research loop writes it. Whatever else has none says so, for a 0
        would be the best val_bpb there is."""
        if self.val_bpb is not None:
            measured = (f"{self.val_bpb:.6f}", f"{self.memory_mb / 1024:.1f}")
        else:
            measured = ("0.000000", "0.0") if self.status == "crash" else ("-", "-")
        return "\t".join((self.commit, *measured, self.status, _plain(self.description))) + "\n"


def short_commit(commit: str) -> str:
    """As a row has it, of a longer one."""
    return commit[:7] + ("+" if commit.endswith("+") else "")


def append_run(path: Path, record: Mapping[str, Any], description: str, checkout: Path) -> None:
    """Append a run's line. The commit is that of `checkout`, with a + where its files differ from it.

    Raises:
        LabError: as check_table.
    """
    status, summary = record["status"], record.get("summary") or {}
    memory = summary.get("peak_vram_mb") or 0.0
    commit = short_commit(commit_of(checkout) or "-")
    append_row(path, Row(commit, summary.get("val_bpb"), memory, STATUS.get(status, status), description))


def append_row(path: Path, row: Row) -> None:
    """Append a line, below the header where there is none yet.

    Raises:
        LabError: as check_table, or the table is locked for LOCK_SECONDS.
    """
    check_table(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)
    with files_at_hand(f"cannot append to {path}"), lock:
        empty = not path.exists() or path.stat().st_size == 0
        with path.open("a", encoding="utf-8") as stream:
            stream.write(("\t".join(HEADER) + "\n" if empty else "") + row.line())


@dataclass(frozen=True)
class OldDecision:
    """A row's commit, the one that was kept last before it, and what was decided then."""

    base: str
    commit: str
    status: str

    def plain(self) -> dict[str, str]:
        return asdict(self)


def old_decision(path: Path, number: int) -> OldDecision:
    """The decision of row `number`, the first below the header being 1.

    Raises:
        LabError: there is no such row, it decided nothing, or its commits are not known.
    """
    check_table(path)
    lines = read_text(path).splitlines()[1:] if path.exists() else []
    rows = [line.split("\t") for line in lines if line.strip()]
    if number > len(rows):
        raise LabError(f"{path} has no row {number}: it has {len(rows)}")
    commit, status = rows[number - 1][0], (*rows[number - 1], "", "", "")[3]
    if status not in DECISIONS:
        raise LabError(f"row {number} of {path} decided nothing: its status is {status!r}")
    base = next((row[0] for row in reversed(rows[: number - 1]) if row[3:4] == ["keep"]), None)
    if base is None:
        raise LabError(f"row {number} of {path} has no kept commit before it, so it was compared with nothing")
    for one in (base, commit):
        if not all(letter in "0123456789abcdef" for letter in one):
            raise LabError(f"row {number} of {path} cannot be tried again: {one} is not a commit that can be got back")
    return OldDecision(base, commit, status)


def _plain(text: str) -> str:
    """One field: no tabs, no line breaks."""
    return " ".join(text.split())
