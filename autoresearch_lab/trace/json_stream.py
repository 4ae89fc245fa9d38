"""Reads the events of a trace in Chrome's format one after the other: a file of a gigabyte never lies in memory whole.

Takes what profilers write and JSON forbids: `nan` and `inf` as C++ prints them, control characters and bytes that are
no UTF-8 in names.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from autoresearch_common.reading import open_regular
from autoresearch_lab.errors import LabError

# Characters: read at once, and the most that one event may have.
CHUNK, MOST = 1 << 20, 64 << 20
_GAP = re.compile(r"[\s,]*")
_NO_NUMBER = re.compile(r"(?:(?<=[:\[,])|^)(\s*)[-+]?(?:nan|inf)(?:\(\w*\))?(?=\s*[,}\]])", re.IGNORECASE)
# How much of a word or number a chunk's end may have cut off.
_CUT = 32


class Malformed(ValueError):
    """The text is no JSON of the expected form."""


class CutOff(Exception):
    """The text ends too early."""


def events(path: Path, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All objects in "traceEvents" (or in the list that the file is). about: takes the file's other keys.

    Raises:
        LabError: the file is missing, cut off, or no such trace.
    """
    try:
        with open_regular(path) as plain:
            beginning = plain.read(3)
            plain.seek(0)
            packed = beginning.startswith(b"\x1f\x8b")
            if packed and beginning != b"\x1f\x8b\x08":
                raise Malformed("neither JSON nor gzip")
            text = _Text(cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain)
            for event in _trace_events(text, about):
                if isinstance(event, dict):
                    yield event
    except FileNotFoundError:
        raise LabError(f"trace-profile: {path} is not there") from None
    except (CutOff, EOFError):
        raise LabError(f"trace-profile: {path} is cut off: its end is missing") from None
    except (OSError, ValueError, RecursionError, zlib.error) as error:
        raise LabError(f"trace-profile: {path} is not a trace of PyTorch's profiler ({error})") from None


def _trace_events(text: _Text, about: dict[str, Any]) -> Iterator[Any]:
    first = text.peek()
    if first == "[":
        for item in text.items():
            if not isinstance(item, dict):
                raise Malformed("a list of something else than events")
            yield item
        return
    if first != "{":
        raise Malformed("no JSON object" if first else "it is empty")
    text.at += 1
    found = False
    while (character := text.peek()) == '"':
        key = text.value()
        if text.peek() != ":":
            raise Malformed(f'no value after "{key}"')
        text.at += 1
        if key == "traceEvents":
            if text.peek() != "[":
                raise Malformed("traceEvents is no list")
            found = True
            yield from text.items()
        else:
            text.peek()
            about[key] = text.value()
    if character != "}":
        raise CutOff if not character else Malformed(f"unexpected {character!r}")
    if not found:
        raise Malformed("no traceEvents")


class _Text:
    """The part of the file that was read and not yet used."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._decode = json.JSONDecoder(strict=False).raw_decode
        self._text, self.at, self._ended, self._mended = "", 0, False, False

    def peek(self) -> str:
        """The next character that is no space or comma; empty at the end."""
        while True:
            self.at = cast(re.Match[str], _GAP.match(self._text, self.at)).end()
            if self.at < len(self._text):
                return self._text[self.at]
            if self._ended:
                return ""
            self._more()

    def items(self) -> Iterator[Any]:
        """The values of the list that begins here."""
        self.at += 1
        while (character := self.peek()) != "]":
            if not character:
                raise CutOff
            yield self.value()
        self.at += 1

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                found, end = self._decode(self._text, self.at)
                if end < len(self._text) or self._ended:
                    self.at = end
                    return found
            except json.JSONDecodeError as error:
                # A string's error is told from its beginning, however long it is.
                self._mend(error.msg, len(self._text) if error.msg.startswith("Unterminated") else error.pos)
            if not self._ended:
                self._more()

    def _mend(self, reason: str, where: int) -> None:
        """Take `nan` out if that is what is wrong here; nothing where the text may only go on later."""
        if where < len(self._text) - _CUT or self._ended:
            if self._mended:
                raise CutOff if self._ended and where >= len(self._text) - _CUT else Malformed(reason)
            self._mended = True
            self._take(self._text[self.at :])

    def _more(self) -> None:
        if len(self._text) - self.at > MOST:
            raise Malformed(f"one value has more than {MOST >> 20} million characters")
        chunk = self._file.read(CHUNK)
        self._ended = not chunk
        self._take(self._text[self.at :] + self._decoder.decode(chunk, final=self._ended))

    def _take(self, text: str) -> None:
        self._text, self.at = _NO_NUMBER.sub(r"\1null", text) if self._mended else text, 0
