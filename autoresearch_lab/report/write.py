"""Write the report's file."""

from __future__ import annotations

from pathlib import Path

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root, write_atomic
from autoresearch_lab.report.collect import collect
from autoresearch_lab.report.page import render

DEFAULT_NAME = "report.html"


def write_report(
    root: Root, ledger: Ledger, context: Context | None, path: Path | None = None, remarks: list[str] | None = None
) -> int:
    """Write the page to `path` (default: results/kernel_lab/report.html) and return its size in bytes.

    Raises:
        LabError: the file cannot be written, or the ledger cannot be read.
    """
    path = path or root.results / DEFAULT_NAME
    page = render(collect(root, ledger, context, remarks or []))
    try:
        write_atomic(path, page)
    except OSError as error:
        raise LabError(f"report: cannot write {path}: {error.strerror or error}") from None
    return len(page.encode("utf-8"))
