"""Write the report's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoresearch_common.files import write_atomic
from autoresearch_lab.errors import files_at_hand
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.report.collect import collect
from autoresearch_lab.report.page import render

DEFAULT_NAME = "report.html"


def write_report(lab: Lab, context: Context | None, path: Path | None = None, remarks: Sequence[str] = ()) -> int:
    """Write the page to `path` (default: results/kernel_lab/report.html) and return its size in bytes.

    Raises:
        LabError: the file cannot be written, or the ledger cannot be read.
    """
    path = path or lab.root.results / DEFAULT_NAME
    page = render(collect(lab, context, remarks))
    with files_at_hand(f"report: cannot write {path}"):
        write_atomic(path, page)
    return len(page.encode("utf-8"))
