"""Turns Metal source into C++ that the headers of this package complete.

Nearly all of Metal is C++ once its own words are macros. Four things are not, and are rewritten token by token; line
numbers stay as they are.

- `threadgroup float tile[8][9];` becomes a reference into the threadgroup's memory. `threadgroup` in a pointer or
  reference type is dropped. Anything else with that word stops with an error: as an empty macro it would silently give
  every thread a variable of its own.
- Floating literals are float, `1.0h` is half and `1.0bf` bfloat.
- Swizzles (`v.xy`, `c.rgb = ...`) become calls of member functions.
- `#include` of Metal's own headers is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from autoresearch_mlx.metal_cpu.errors import MetalRejects, Unsupported
from autoresearch_mlx.metal_cpu.tokens import Tokens, directives, is_floating

MOST_VARIABLES = 255  # state.h
_QUALIFIERS = {"const", "volatile"}
_ELABORATED = {"struct", "class", "typename", "enum", "union"}
_SEVERAL_WORDS = {"unsigned", "signed", "short", "long", "int", "char"}
_SWIZZLE = re.compile(r"[xyzw]{2,4}|[rgba]{2,4}")
_COMPONENT = {name: i % 4 for i, name in enumerate("xyzwrgba")}
_ASSIGNMENTS = {"=", "+=", "-=", "*=", "/="}
_OWN_HEADERS = re.compile(r"#\s*include\s*<(metal_\w+|simd/\w+(\.h)?)>")
_COLLECTIVE = re.compile(r"simd_|quad_|simdgroup_(?!index_in_threadgroup)|threadgroup_barrier$")


class Rewriter:
    """Rewrites the sources of one kernel; threadgroup variables are numbered through all of them."""

    def __init__(self) -> None:
        self.variables: list[str] = []  # names of the threadgroup variables, by number
        self.collective = False  # whether any thread may wait for another

    def source(self, text: str) -> str:
        """The kernel's body. Raises Unsupported or MetalRejects."""
        return self._rewrite(Tokens(text, "source"), declarations=True)

    def header(self, text: str) -> str:
        """What stands before the kernel. Raises Unsupported or MetalRejects."""
        return self._rewrite(Tokens(text, "header"), declarations=False)

    def _rewrite(self, tokens: Tokens, declarations: bool) -> str:
        in_directive: set[int] = set()
        for start, end in list(directives(tokens)):
            in_directive.update(range(start, end))
            _include(tokens, start, end)
        self.collective |= any(_COLLECTIVE.match(token.text) for _, token in tokens.words())
        for i, token in list(tokens.words()):
            if token.text == "threadgroup":
                self._threadgroup(tokens, i, declarations, i in in_directive)
        _swizzles(tokens)
        _literals(tokens)
        return tokens.joined()

    def _threadgroup(self, tokens: Tokens, i: int, declarations: bool, in_directive: bool) -> None:
        token = tokens.list[i]
        if _qualifies_method(tokens, i):
            token.text = ""
            return
        after = _past_type(tokens, tokens.next(i))
        mark, then = tokens.text(after), tokens.text(tokens.next(after))
        if mark in ("*", "&", "&&") or (mark == "(" and then in ("*", "&")):
            if then == "threadgroup":
                raise Unsupported("a pointer that itself lies in threadgroup memory", tokens.where, token.line)
            token.text = ""
        elif _enclosing(tokens, i) == "(":
            if then != "[":
                raise MetalRejects("a threadgroup parameter that is no pointer or reference", tokens.where, token.line)
            token.text = ""
        elif after < len(tokens.list) and tokens.list[after].kind == "word" and then in ("[", ";", ",", "=", "{", "("):
            if in_directive:
                raise Unsupported("a threadgroup variable declared in a macro", tokens.where, token.line)
            if not declarations or _inside_struct(tokens, i):
                raise MetalRejects(
                    "threadgroup variables can be declared in the kernel itself only", tokens.where, token.line
                )
            self._declare(tokens, i, after)
        else:
            raise Unsupported(f"'threadgroup' before {mark or 'the end'!r}", tokens.where, token.line)

    def _declare(self, tokens: Tokens, i: int, name_at: int) -> None:
        """Replace `threadgroup T a[n], b;` by typedefs and references. `name_at` is the first declared name."""
        line = tokens.list[i].line
        kind = "".join(token.text for token in tokens.list[i + 1 : name_at]).strip()
        before = tokens.previous(i)
        if tokens.text(before) in _QUALIFIERS | {"static"}:
            raise Unsupported(f"'{tokens.text(before)} threadgroup' in a declaration", tokens.where, line)
        result, at = "", name_at
        while True:
            name, end = tokens.text(at), tokens.next(at)
            while tokens.text(end) == "[":
                end = tokens.next(tokens.closing(end))
            if tokens.text(end) not in (",", ";"):
                raise MetalRejects("a threadgroup variable cannot be initialised", tokens.where, line)
            shape = "".join(token.text for token in tokens.list[at + 1 : end]).strip()
            number = len(self.variables)
            if number == MOST_VARIABLES:
                raise Unsupported(f"more than {MOST_VARIABLES} threadgroup variables", tokens.where, line)
            self.variables.append(name)
            alias = f"msl_variable_{number}"
            result += f'typedef {kind} {alias}{shape}; {alias}& {name} = msl_threadgroup<{alias}>({number}, "{name}"); '
            if tokens.text(end) == ";":
                break
            at = tokens.next(end)
        newlines = sum(token.text.count("\n") for token in tokens.list[i : end + 1]) - result.count("\n")
        tokens.list[i].text = result + "\n" * newlines
        for token in tokens.list[i + 1 : end + 1]:
            token.text, token.kind = "", "space"


def _include(tokens: Tokens, start: int, end: int) -> None:
    text = "".join(token.text for token in tokens.list[start:end])
    if not re.match(r"#\s*include\b", text):
        return
    if not _OWN_HEADERS.match(text):
        raise Unsupported(f"{text.strip()}: only Metal's own headers are known", tokens.where, tokens.list[start].line)
    for token in tokens.list[start:end]:
        token.text, token.kind = "", "space"


def _qualifies_method(tokens: Tokens, i: int) -> bool:
    """`void f() threadgroup {` and `void f() const threadgroup;`"""
    before = tokens.previous(i)
    while tokens.text(before) in _QUALIFIERS:
        before = tokens.previous(before)
    return tokens.text(before) == ")" and tokens.text(tokens.next(i)) in ("{", ";", "const", "=")


def _past_type(tokens: Tokens, i: int) -> int:
    """Index of the first token behind the type that begins at `i`."""
    while tokens.text(i) in _QUALIFIERS | _ELABORATED:
        i = tokens.next(i)
    if tokens.text(i) in _SEVERAL_WORDS:
        while tokens.text(i) in _SEVERAL_WORDS:
            i = tokens.next(i)
    else:
        while True:
            if tokens.text(i) == "::":
                i = tokens.next(i)
            if tokens.text(i) == "template":
                i = tokens.next(i)
            i = tokens.next(i)
            if tokens.text(i) == "<":
                i = tokens.next(tokens.closing(i))
            if tokens.text(i) != "::":
                break
    while tokens.text(i) in _QUALIFIERS:
        i = tokens.next(i)
    return i


def _open_brackets(tokens: Tokens, i: int) -> Iterator[int]:
    """Indices of the brackets that are open at token `i`, the innermost first."""
    depth = 0
    for k in range(i - 1, -1, -1):
        text = tokens.text(k)
        if text in (")", "]", "}"):
            depth += 1
        elif text in ("(", "[", "{"):
            if depth == 0:
                yield k
            else:
                depth -= 1


def _enclosing(tokens: Tokens, i: int) -> str:
    return next((tokens.text(k) for k in _open_brackets(tokens, i)), "")


def _inside_struct(tokens: Tokens, i: int) -> bool:
    """Whether the innermost braces around `i` are a struct's: a kernel's body may define local ones."""
    for k in _open_brackets(tokens, i):
        before = tokens.previous(k)
        if tokens.text(k) == "{" and tokens.list[before].kind == "word":
            return tokens.text(tokens.previous(before)) in ("struct", "class", "union")
    return False


def _swizzles(tokens: Tokens) -> None:
    found = []
    names = set()
    for i, token in tokens.words():
        if not _SWIZZLE.fullmatch(token.text):
            continue
        after = tokens.text(tokens.next(i))
        if tokens.text(tokens.previous(i)) in (".", "->"):
            if after != "(":
                found.append(i)
        else:
            names.add(token.text)  # declared somewhere: a member of the kernel's own, not a swizzle
    for i in found:
        token = tokens.list[i]
        if token.text in names:
            continue
        access = "put" if tokens.text(tokens.next(i)) in _ASSIGNMENTS else "get"
        lanes = ", ".join(str(_COMPONENT[letter]) for letter in token.text)
        token.text = f"template {access}<{lanes}>()"


def _literals(tokens: Tokens) -> None:
    for token in tokens.list:
        if token.kind != "number" or not is_floating(token.text):
            continue
        text = token.text
        if text[-1] in "lL":
            raise MetalRejects(f"the literal {text} is a double", tokens.where, token.line)
        if text.lower().endswith("bf") and not text.startswith(("0x", "0X")):
            token.text = f"::msl::metal::bfloat({text[:-2]}f)"
        elif text[-1] in "hH":
            token.text = f"::msl::metal::half({text[:-1]}f)"
        elif text[-1] not in "fF" or (text[:2] in ("0x", "0X") and "p" not in text.lower()):
            token.text = text + "f"
