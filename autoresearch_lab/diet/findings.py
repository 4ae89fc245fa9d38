"""What an honest kernel needs, and what a kernel's source does beyond that: its diet, read without running anything.

A kernel needs its framework, some mathematics and this project's helpers. Whatever else its source does (change torch
for everybody, read the environment, start threads, open files) is a finding, one line of plain English. Findings make
visible what happens by accident or out of eagerness. They are no protection: who wants to hide something from this can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autoresearch_lab.diet import native, python


@dataclass(frozen=True, order=True)
class DietFinding:
    """Something that a kernel's source does beyond its diet. file: the name, without its folder; line: from 1."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.what}"


def findings(kernel: Path) -> list[DietFinding]:
    """What a kernel's Python file and the C++ or CUDA source of the same stem beside it do beyond the diet, file by
    file and line by line; none for an honest kernel. Metal sources can do nothing but compute, so they are not read.

    A file that cannot be read, decoded or parsed is a finding. Nothing is raised.
    """
    found = _read(kernel, python.read)
    for suffix in (".cpp", ".cu"):
        if kernel.with_suffix(suffix).is_file():
            found += _read(kernel.with_suffix(suffix), native.read)
    return found


def lines(kernel: Path) -> list[str]:
    """The findings as they are told."""
    return [str(finding) for finding in findings(kernel)]


def summary(found: Iterable[str], most: int = 3) -> str:
    """Findings in one line; of more than `most` the others are counted."""
    told = list(found)
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more


def _read(path: Path, reader: Callable[[str], Iterator[tuple[int, str]]]) -> list[DietFinding]:
    try:
        found = set(reader(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        found = {(1, f"the file cannot be read ({error.strerror or error})")}
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = {(line, f"the file is not UTF-8 text (byte {error.start})")}
    return sorted(DietFinding(path.name, line, what) for line, what in found)
