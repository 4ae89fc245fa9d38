"""Cuts a long text into documents of limited length, at the seams of its source code or paragraphs.

Packing crops the rest of a document that does not fit into a row. A source file of 5,000 tokens in a row of 257 would
lose 95 % of itself, and the model would only ever see the first lines of files: licences and imports. What packing
loses at T = 256 falls with the limit: 33 % of the standard library's tokens at 1,000 characters, 15 % at 600, 9 % at
400. 600 keeps most functions whole and fills a row of 257 tokens with one or two documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

DOCUMENT_CHARACTERS = 600


def split_text(text: str, limit: int = DOCUMENT_CHARACTERS) -> list[str]:
    """Cut `text` into pieces of at most `limit` characters; joined, they give the text again.

    Cuts fall, in order of preference: before a line at column 0 that follows a blank line (a top-level definition or
    a paragraph), before any line that follows a blank line, before any line, anywhere. Neighbouring pieces are joined
    again as far as the limit allows, so a text never falls into more pieces than its seams force it to.
    """
    pieces: list[str] = []
    size = 0
    for seam in _seams(text, limit, (_starts_top_level_block, _starts_block, _starts_line)):
        if pieces and size + len(seam) <= limit:
            pieces[-1] += seam
            size += len(seam)
        else:
            pieces.append(seam)
            size = len(seam)
    return pieces


_Rule = Callable[[str, str], bool]


def _seams(text: str, limit: int, rules: tuple[_Rule, ...]) -> Iterator[str]:
    """Yield the blocks of `text` by the first rule; a block over the limit is cut by the rules that remain."""
    if not rules:
        for start in range(0, len(text), limit):
            yield text[start : start + limit]
        return
    for block in _blocks(text, rules[0]):
        if len(block) <= limit:
            yield block
        else:
            yield from _seams(block, limit, rules[1:])


def _blocks(text: str, starts: _Rule) -> Iterator[str]:
    """Yield consecutive parts of `text`; a part begins at every line for which `starts(line before, line)` holds."""
    begin = position = 0
    previous = ""
    # str.splitlines also breaks at form feeds and Unicode separators, which are ordinary characters in source code.
    while position < len(text):
        newline = text.find("\n", position)
        end = len(text) if newline < 0 else newline + 1
        line = text[position:end]
        if position > begin and starts(previous, line):
            yield text[begin:position]
            begin = position
        previous, position = line, end
    if begin < len(text):
        yield text[begin:]


def _starts_top_level_block(previous: str, line: str) -> bool:
    return not previous.strip() and not line[0].isspace()


def _starts_block(previous: str, line: str) -> bool:
    return not previous.strip() and bool(line.strip())


def _starts_line(previous: str, line: str) -> bool:
    return True
