"""Source lines of addresses in a compiled kernel, by the debugger's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from autoresearch_mlx.metal_cpu.findings import Place
from autoresearch_mlx.metal_cpu.signature import HEADER_LINES

UNKNOWN = Place("source", 0)
_LINE = re.compile(r"kernel\.metal:(\d+)")


def place(line: int) -> Place:
    """The place of a line number of the translation unit."""
    return Place("header", line - HEADER_LINES) if line > HEADER_LINES else Place("source", line)


def places(path: Path, offsets: Iterable[int]) -> dict[int, Place]:
    """The kernel's line for each return address, given as an offset in the shared object.

    Of code that was inlined it is the innermost line of the kernel's own. Without addr2line (or atos on a Mac) lines
    stay unknown.
    """
    wanted = sorted({offset for offset in offsets if offset})
    command = _tool()
    if not wanted or command is None:
        return dict.fromkeys(wanted, UNKNOWN)
    addresses = [hex(offset - 1) for offset in wanted]  # the call lies before its return address
    done = subprocess.run([*command, str(path), *addresses], capture_output=True, text=True)
    found, blocks = {}, _blocks(done.stdout, command[0], addresses)
    for offset, block in zip(wanted, blocks, strict=False):
        lines = [int(number) for number in _LINE.findall(block)]
        found[offset] = place(lines[0]) if lines else UNKNOWN
    return {offset: found.get(offset, UNKNOWN) for offset in wanted}


@cache
def _tool() -> tuple[str, ...] | None:
    if sys.platform == "darwin":
        return ("atos", "-i", "-o") if shutil.which("atos") else None
    for name in ("addr2line", "llvm-addr2line", "llvm-symbolizer"):
        if shutil.which(name):
            return (name, "-a", "-i", "-e")
    return None


def _blocks(text: str, tool: str, addresses: list[str]) -> list[str]:
    """One block of lines per address: addr2line prints the address before each, atos an empty line between two."""
    if tool == "atos":
        return re.split(r"\n\s*\n", text.strip())
    return re.split(r"^0x[0-9a-f]+$", text, flags=re.MULTILINE)[1:]
