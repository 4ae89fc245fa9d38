"""Splits Metal source into tokens that, joined again, are the source: spaces and comments are tokens too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autoresearch_mlx.metal_cpu.errors import SourceError

_PATTERN = re.compile(
    r"""
    (?P<space> (?: \s | \\\n | //[^\n]* | /\*.*?\*/ )+ )
  | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<number> \.?[0-9](?: [eEpP][+-] | [0-9A-Za-z_.] )* )
  | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<mark> ::|->|\+\+|--|<<=|<<|<=|==|!=|&&|\|\||[-+*/%&|^]=|\#\#|\.\.\.|. )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Token:
    """`kind` is space (with comments), string, number, word or mark; `line` counts from 1."""

    kind: str
    text: str
    line: int


class Tokens:
    """The tokens of one source, and steps between those that mean something."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.list: list[Token] = []
        line = 1
        for match in _PATTERN.finditer(text):
            self.list.append(Token(str(match.lastgroup), match.group(), line))
            line += match.group().count("\n")
        self._check_comments(text)

    def _check_comments(self, text: str) -> None:
        for first, second in zip(self.list, self.list[1:], strict=False):
            if first.text == "/" and second.text == "*":
                raise SourceError("a comment does not end", self.where, first.line)

    def text(self, i: int) -> str:
        """Text of token `i`; empty beyond either end."""
        return self.list[i].text if 0 <= i < len(self.list) else ""

    def next(self, i: int) -> int:
        """Index of the next token that is no space, or the number of tokens."""
        i += 1
        while i < len(self.list) and self.list[i].kind == "space":
            i += 1
        return i

    def previous(self, i: int) -> int:
        """Index of the token before that is no space, or -1."""
        i -= 1
        while i >= 0 and self.list[i].kind == "space":
            i -= 1
        return i

    def words(self) -> Iterator[tuple[int, Token]]:
        """All words, directives included, with their indices."""
        return ((i, token) for i, token in enumerate(self.list) if token.kind == "word")

    def closing(self, i: int) -> int:
        """Index of the bracket that closes the one at `i`; `<` is closed by `>` or half of `>>`."""
        opening = self.text(i)
        closing = {"(": ")", "[": "]", "{": "}", "<": ">"}[opening]
        depth = 0
        while i < len(self.list):
            text = self.text(i)
            if text == opening:
                depth += 1
            elif text == closing:
                depth -= 1
                if depth == 0:
                    return i
            i = self.next(i)
        raise SourceError(f"'{opening}' is not closed", self.where, self.list[-1].line)

    def joined(self, edit: Callable[[Token], str] = lambda token: token.text) -> str:
        """The source again."""
        return "".join(edit(token) for token in self.list)


def is_floating(number: str) -> bool:
    """Whether a number token is a floating literal."""
    if number[:2] in ("0x", "0X"):
        return "p" in number.lower() or "." in number
    if number[:2] in ("0b", "0B"):
        return False
    return "." in number or "e" in number.lower() or bool(re.fullmatch(r"[0-9]+[fFhH]", number))


def directives(tokens: Tokens) -> Iterator[tuple[int, int]]:
    """(first, past the last) token index of every preprocessor directive; a directive ends with its line."""
    i = 0
    while i < len(tokens.list):
        before = tokens.list[i - 1] if i else None
        starts_line = before is None or (before.kind == "space" and "\n" in before.text) or i == 0
        if tokens.text(i) == "#" and starts_line:
            end = i + 1
            while end < len(tokens.list) and "\n" not in _ends_line(tokens.list[end]):
                end += 1
            yield i, end
            i = end
        i += 1


def _ends_line(token: Token) -> str:
    return token.text.replace("\\\n", "") if token.kind == "space" else ""
