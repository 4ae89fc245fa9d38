"""Traces that the lab did not take: which format a file has, and what it shows."""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autoresearch_common.reading import open_regular
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.trace import chrome, nsys, nsys_database
from autoresearch_lab.trace.survey import Attributed, attribute_all
from autoresearch_lab.trace.timeline import Timeline
from autoresearch_trainer.kernel_files import TARGETS

_DATABASE, _GZIP = b"SQLite format 3\0", b"\x1f\x8b"
FORMATS = "an Nsight Systems export (.sqlite, .nsys-rep) or a trace of PyTorch's profiler (.json, .json.gz)"


def read_mapping(texts: Sequence[str]) -> list[tuple[re.Pattern[str], str]]:
    """`regex=target` each: kernels whose names the regex finds belong to the target.

    Raises:
        LabError: one has another form, is no regular expression, or names no target.
    """
    found = []
    for text in texts:
        regex, separator, target = text.rpartition("=")
        if not separator or not regex:
            raise LabError(f"--map '{text}': give 'regex=target'")
        if target not in TARGETS:
            raise LabError(f"--map '{text}': there is no target {target}; known: {', '.join(TARGETS)}")
        found.append((compiled(regex, "--map"), target))
    return found


def compiled(regex: str, option: str) -> re.Pattern[str]:
    """Raises LabError where it is no regular expression."""
    try:
        return re.compile(regex)
    except re.error as error:
        raise LabError(f"{option} '{regex}' is no regular expression: {error}") from None


def read_attributed(path: Path, steps: str | None = None, mapping: Sequence[str] = ()) -> tuple[Attributed, str]:
    """(the trace's work with its owners, "nsys" or "torch").

    Raises:
        LabError: the file is missing, damaged, no trace, or shows no work; one line says which.
    """
    mapped = read_mapping(mapping)
    pattern = None if steps is None else compiled(steps, "--step")
    with _without_collector():
        timeline, tool = _read(path.expanduser())
        if not timeline.work:
            raise LabError(f"trace-profile: {path} shows no work of a device{_missing(tool)}")
        return attribute_all(timeline, pattern, mapped), tool


def _missing(tool: str) -> str:
    if tool == "nsys":
        return ": it has no table CUPTI_ACTIVITY_KIND_KERNEL, _MEMCPY, _MEMSET or _GRAPH_TRACE with rows (--trace=cuda)"
    return ", and no operators of PyTorch: neither was recorded"


def _read(path: Path) -> tuple[Timeline, str]:
    with files_at_hand(f"trace-profile: cannot read {path}"), open_regular(path) as file:
        beginning = file.read(len(_DATABASE))
    try:
        if beginning == _DATABASE or path.suffix == ".sqlite":
            return nsys_database.read(path), "nsys"
        if path.suffix == ".nsys-rep":
            return _exported(path), "nsys"
        if beginning.startswith(_GZIP) or beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return chrome.read(path), "torch"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"trace-profile: {path} is damaged ({type(error).__name__}: {error})") from None
    raise LabError(f"trace-profile: {path} is neither {FORMATS.replace(' or ', ' nor ')}")


def _exported(report: Path) -> Timeline:
    program = shutil.which("nsys")
    if program is None:
        raise LabError(
            f"trace-profile: {report} needs nsys, which is not on this machine: nsys export --type=sqlite {report.name}"
        )
    with tempfile.TemporaryDirectory(prefix="kernel-lab-") as folder:
        database = Path(folder) / "trace.sqlite"
        nsys.export(program, report, database, "trace-profile")
        return nsys_database.read(database)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of small tuples, none in a circle: looking for circles would take a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
