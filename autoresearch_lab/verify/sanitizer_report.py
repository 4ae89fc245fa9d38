"""What a report of AddressSanitizer says, in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from autoresearch_trainer.jobs.base import printable

MOST_WORDS = 200
_ERROR = re.compile(r"ERROR: AddressSanitizer:? ([^\n]*)")
_TROUBLE = re.compile(r"AddressSanitizer: (CHECK failed: [^\n]*)")
_ACCESS = re.compile(r"^(READ|WRITE) of size (\d+) at", re.MULTILINE)
# gcc up to 12 says "to the right of", newer ones and clang "after".
_BLOCK = re.compile(r"is located (\d+) bytes (to the right of|to the left of|after|before|inside of) (\d+)-byte region")
_STACK = re.compile(r"is located in stack of thread")
_VARIABLE = re.compile(r"'([^'\n]+)'(?: \(line \d+\))? <== [^\n]*?(overflows|underflows|partially)")
_GLOBAL = re.compile(
    r"is located (\d+) bytes (to the right of|to the left of|after|before|inside of) global variable '([^'\n]+)'"
)
_FRAME = re.compile(r"^\s*#\d+ 0x[0-9a-f]+ in [^\n]*?([^/\s]+):(\d+)(?::\d+)?$", re.MULTILINE)


@dataclass(frozen=True)
class Overrun:
    """kind: as the sanitizer calls it, such as "heap-buffer-overflow". words: what was done, and where."""

    kind: str
    words: str


def read_report(text: str, source: str) -> Overrun | None:
    """The first error of a report; None where the text holds none. source: the file of the kernel, whose line is named
    rather than that of a header."""
    error = _ERROR.search(text)
    if error is None:
        return None
    kind = printable(error.group(1).split()[0] if error.group(1).split() else "error")
    rest = text[error.end() :]
    access = _ACCESS.search(rest)
    verb = "reads or writes" if access is None else "reads" if access.group(1) == "READ" else "writes"
    size = f" {access.group(2)} bytes" if access else ""
    place = _place(rest, kind)
    if place is None:
        words = f"{kind}: {verb}{size} where nothing is"
    else:
        words = f"{verb}{size}{place}"
    return Overrun(kind[:MOST_WORDS], printable(f"{words}{_line(rest, source)}")[:MOST_WORDS])


def sanitizer_trouble(text: str) -> str | None:
    """What broke in the sanitizer itself, through no fault of the kernel's; None where nothing did."""
    found = _TROUBLE.search(text)
    return printable(found.group(1))[:MOST_WORDS] if found else None


def _place(text: str, kind: str) -> str | None:
    """Where the access lies; None where the report does not say."""
    if block := _BLOCK.search(text):
        distance, side, size = int(block.group(1)), block.group(2), block.group(3)
        if side == "inside of":
            return f" in a block of {size} bytes that was freed" if "free" in kind else f" in a block of {size} bytes"
        return f"{_beyond(distance, side)} of a block of {size} bytes"
    if found := _GLOBAL.search(text):
        return f"{_beyond(int(found.group(1)), found.group(2))} of the global variable {found.group(3)}"
    if _STACK.search(text):
        named = _VARIABLE.search(text)
        return f" beyond the local variable {named.group(1)}" if named else " beyond a local variable"
    return None


def _beyond(distance: int, side: str) -> str:
    """The sanitizer counts from the block's end to the access, and from the access to the block's start."""
    if side in ("to the right of", "after"):
        return f", {distance} bytes past the end" if distance else " right past the end"
    return f", {distance} bytes before the start"


def _line(text: str, source: str) -> str:
    """ ", FILE line N" of the innermost frame in the kernel's source, else of the innermost that has a line."""
    stack = text.split("\n\n", 1)[0]
    frames = _FRAME.findall(stack)
    chosen = next((frame for frame in frames if frame[0] == source), frames[0] if frames else None)
    return f", {chosen[0]} line {chosen[1]}" if chosen else ""
