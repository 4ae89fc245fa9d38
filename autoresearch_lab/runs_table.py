"""results.tsv: one line per training run, in the columns that the research loop keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from autoresearch_common.reading import BadFile, read_text
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.ledger import commit_of
from autoresearch_lab.paths import writable_folder

# For as long as it takes to write a line; the run itself is in run.json.
LOCK_SECONDS = 10.0
HEADER = ("commit", "val_bpb", "memory_gb", "status", "description")
# A loop that keeps or discards changes overwrites "done" with its own verdict.
STATUS = {"complete": "done", "interrupted": "interrupted", "failed": "crash"}


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


def append_run(path: Path, record: Mapping[str, Any], description: str, checkout: Path) -> None:
    """Append a run's line; a run without a val_bpb has zeros, as the research loop writes a crash.

    The commit is that of `checkout`, with a + where its files differ from it.

    Raises:
        LabError: as check_table, or the table is locked for LOCK_SECONDS.
    """
    check_table(path)
    status, summary = record["status"], record.get("summary") or {}
    bpb = summary.get("val_bpb")
    memory = summary["peak_vram_mb"] / 1024 if bpb is not None else 0.0
    commit = commit_of(checkout) or "-"
    commit = commit[:7] + ("+" if commit.endswith("+") else "")
    fields = [commit, f"{bpb or 0.0:.6f}", f"{memory:.1f}", STATUS.get(status, status), _plain(description)]
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)
    with files_at_hand(f"cannot append to {path}"), lock:
        empty = not path.exists() or path.stat().st_size == 0
        with path.open("a", encoding="utf-8") as stream:
            stream.write(("\t".join(HEADER) + "\n" if empty else "") + "\t".join(fields) + "\n")


def _plain(text: str) -> str:
    """One field: no tabs, no line breaks."""
    return " ".join(text.split())
