"""What a Metal compiler refuses and a C++ compiler lets pass, as far as tokens show it.

The address space of pointers is the error most often met: every pointer and reference says device, constant,
threadgroup or thread in Metal. Found here is a pointer or reference to a type known by name (a scalar or vector type, a
template parameter, a struct or alias of the source) that says none of them.
"""

from __future__ import annotations

from autoresearch_mlx.metal_cpu.errors import MetalRejects
from autoresearch_mlx.metal_cpu.tokens import Tokens

_WORDS = {
    "double": "Metal has no double",
    "new": "Metal has no dynamic memory",
    "delete": "Metal has no dynamic memory",
    "malloc": "Metal has no dynamic memory",
    "throw": "Metal has no exceptions",
    "try": "Metal has no exceptions",
    "catch": "Metal has no exceptions",
    "virtual": "Metal has no virtual functions",
    "dynamic_cast": "Metal has no run-time types",
    "typeid": "Metal has no run-time types",
    "thread_local": "Metal has no thread_local",
    "goto": "Metal has no goto",
    "asm": "Metal has no inline assembly",
    "printf": "Metal has no printf",
}
_SCALARS = "bool char uchar short ushort int uint long ulong half bfloat float".split()
_TYPES = {name + width for name in _SCALARS for width in ("", "2", "3", "4")} | {
    *(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "size_t", "float16_t", "bfloat16_t",
}  # fmt: skip
_SPACES = {"device", "constant", "threadgroup", "thread"}
_BEFORE_TYPE = {"(", ",", ";", "{", "}", "", ")", "<", "inline", "static", "METAL_FUNC"}


def check(text: str, where: str) -> None:
    """Look through one source. Raises MetalRejects with the line of the first thing found."""
    tokens = Tokens(text, where)
    types = _TYPES | _own_types(tokens)
    for i, token in tokens.words():
        before, after = tokens.text(tokens.previous(i)), tokens.text(tokens.next(i))
        if token.text in _WORDS and before not in (".", "->"):
            raise MetalRejects(f"'{token.text}': {_WORDS[token.text]}", where, token.line)
        if token.text == "std" and after == "::":
            raise MetalRejects("'std::': the standard library is not there; see namespace metal", where, token.line)
        if token.text == "long" and after == "long":
            raise MetalRejects("'long long': Metal has long, of 64 bits", where, token.line)
        if token.text in types and after in ("*", "&") and _lacks_space(tokens, i):
            raise MetalRejects(
                f"'{token.text}{after}' without an address space (device, constant, threadgroup or thread)",
                where,
                token.line,
            )


def _own_types(tokens: Tokens) -> set[str]:
    """Names that the source makes types: template parameters, structs and aliases."""
    found = set()
    for i, token in tokens.words():
        name = tokens.next(i)
        if token.text in ("typename", "struct", "using", "class") and name < len(tokens.list):
            follower = tokens.text(tokens.next(name))
            wanted = {"typename": (",", ">", "="), "class": (",", ">", "="), "struct": ("{",), "using": ("=",)}
            if tokens.list[name].kind == "word" and follower in wanted[token.text]:
                found.add(tokens.text(name))
    return found


def _lacks_space(tokens: Tokens, i: int) -> bool:
    """Whether `T *` at `i` declares something and says no address space; a multiplication or a comparison does not."""
    mark = tokens.next(i)
    declared = tokens.next(mark)
    if declared >= len(tokens.list):
        return False
    # `T* name` in a declaration, `(T*)` in a cast, `<T*>` in template arguments.
    follower = tokens.text(tokens.next(declared))
    declares = tokens.list[declared].kind == "word" and follower in (",", ")", "=", ";", "[", "(", "{", ":")
    if not declares and tokens.text(declared) not in (")", ">"):
        return False
    k = tokens.previous(i)
    while tokens.text(k) in {"const", "volatile", "struct", "typename", "::", "metal"}:
        k = tokens.previous(k)
    return tokens.text(k) not in _SPACES and tokens.text(k) in _BEFORE_TYPE
