"""What single instructions of x86-64 and arm64 do, as far as a profile of floating-point loops asks: arithmetic and its
width, memory and the stack, registers that step through an array."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from autoresearch_lab.trace.objdump import Instruction

FLOAT_BITS = 32

_DOT = re.compile(r"v?dpbf16ps|tdpbf16ps|v?dpphps|bfdot|bfmmla|bfmlal[bt]")
_FMA = re.compile(r"vfn?m(add|sub)\w*|fn?m(add|sub|la|ls)")
_OTHER = re.compile(r"v?(add|sub|mul|div|sqrt|min|max|rcp|rsqrt|scalef)(14|28)?[ps][sd]|"
                    r"f(add|sub|n?mul|div|sqrt|min|max|minnm|maxnm|recpe|recps|rsqrte|rsqrts)")  # fmt: skip
_SCALAR = re.compile(r"v?[a-z0-9]+s[sd]")
_X86_VECTOR = re.compile(r"\b([xyz])mm\d+")
_X86_BITS = {"x": 128, "y": 256, "z": 512}
_ARM_VECTOR = re.compile(r"\b(v\d+\.|q\d+\b)")
_ARM_FLOAT = re.compile(r"\b([bhsdq]\d+\b|v\d+\.)")
_MEMORY = re.compile(r"\[[^\]]*\]")
_SIZES = {"DWORD": 4, "QWORD": 8, "XMMWORD": 16, "YMMWORD": 32, "ZMMWORD": 64}
_READS_ONLY = re.compile(r"v?u?comis[sd]|cmp|test|bt|prefetch\w*|push|call|jmp|nopw?|str?|stp|stn?p|stur")
_MOVES = re.compile(
    r"v?mov\w*|vextract\w*|v?pextr\w*|vpcompress\w*|vcompress\w*|vps?catter\w*|vcvtps2ph|vpmov\w*|set\w+|st\w+"
)


def is_dot(one: Instruction) -> bool:
    """Whether it multiplies pairs and adds the products."""
    return bool(_DOT.fullmatch(one.mnemonic))


def is_fma(one: Instruction) -> bool:
    return bool(_FMA.fullmatch(one.mnemonic))


def is_arithmetic(one: Instruction) -> bool:
    """Whether it computes floating-point numbers; conversions, masks and comparisons do not count."""
    return is_dot(one) or is_fma(one) or bool(_OTHER.fullmatch(one.mnemonic))


def bits(one: Instruction) -> int:
    """Width of a piece of arithmetic: 512, 256, 128, or that of one number."""
    if one.mnemonic.startswith(("f", "bf")):
        return 128 if _ARM_VECTOR.search(one.operands) else FLOAT_BITS
    if _SCALAR.fullmatch(one.mnemonic):
        return FLOAT_BITS
    return max((_X86_BITS[letter] for letter in _X86_VECTOR.findall(one.operands)), default=FLOAT_BITS)


def has_frame_pointer(code: Sequence[Instruction]) -> bool:
    """Whether the function addresses its stack frame through rbp as well."""
    return any(one.mnemonic == "mov" and one.operands == "rbp,rsp" for one in code)


def stack_access(one: Instruction, frame_pointer: bool) -> tuple[bool, bool]:
    """(loads from the stack frame, stores to it)."""
    found = _MEMORY.search(one.operands)
    if found is None or one.mnemonic == "lea":
        return False, False
    names = re.findall(r"[a-z]+\d*", found[0])
    if not names or names[0] not in (("rsp", "sp", "x29", "rbp") if frame_pointer else ("rsp", "sp", "x29")):
        return False, False
    if one.mnemonic.startswith("st"):
        return False, True
    first = one.operands.partition(",")[0]
    if "[" not in first or _READS_ONLY.fullmatch(one.mnemonic):
        return True, False
    return not _MOVES.fullmatch(one.mnemonic), True


def moves_vector(one: Instruction) -> bool:
    """Whether a load or store is one of floating-point numbers or vectors, rather than of a pointer or a count."""
    return bool(_X86_VECTOR.search(one.operands) or _ARM_FLOAT.match(one.operands))


def elements(code: Iterable[Instruction], width: int) -> int | None:
    """Array elements per iteration of a loop whose arithmetic is `width` bits wide, from how far its pointers step.

    A full-width access is taken to hold as many elements as the arithmetic has lanes, one of half the width as well
    (bfloat16 that is widened); the pointer that says most is believed, since a full register of bfloat16 holds twice as
    many as it seems to. None where no pointer steps by a constant.
    """
    code = list(code)
    steps = _steps(code)
    lanes, found = width // FLOAT_BITS, set()
    for one in code:
        size, memory = _access(one), _MEMORY.search(one.operands)
        if memory is None or size not in (width // 8, width // 16):
            continue
        stride = _stride(memory[0], steps) or _post_increment(one)
        if stride:
            found.add(abs(stride) * lanes // size)
    return max(found, default=None)


def _access(one: Instruction) -> int | None:
    """Bytes that a memory operand covers."""
    named = re.search(r"\b([XYZ]MMWORD|[QD]WORD) (?:PTR|BCST)", one.operands)
    if named:
        return None if "BCST" in named[0] or "{1to" in one.operands else _SIZES[named[1]]
    if one.mnemonic.startswith(("ld", "st")):
        registers = re.findall(r"\b([sdq])\d+\b", one.operands.partition("[")[0])
        return sum({"s": 4, "d": 8, "q": 16}[letter] for letter in registers) or None
    return None


def _steps(code: Sequence[Instruction]) -> dict[str, int]:
    """{register: what is added to it per iteration}, of those that are changed in one place and by a constant."""
    written = Counter(one.operands.partition(",")[0] for one in code if one.mnemonic not in ("cmp", "test"))
    steps = {}
    for one in code:
        parts = one.operands.split(",")
        register = parts[0]
        if written[register] != 1:
            continue
        if one.mnemonic in ("inc", "dec"):
            steps[register] = 1 if one.mnemonic == "inc" else -1
        elif one.mnemonic in ("add", "sub") and (amount := _constant(parts[-1])) is not None:
            if len(parts) == 2 or parts[1].strip() == register:
                steps[register] = amount if one.mnemonic == "add" else -amount
    return steps


def _constant(text: str) -> int | None:
    found = re.fullmatch(r"#?(0x[0-9a-f]+|\d+)", text.strip())
    if found is None:
        return None
    value = int(found[1], 0)
    return value - (1 << 64) if value >= 1 << 63 else value


def _stride(memory: str, steps: dict[str, int]) -> int:
    """By how many bytes the address of `[base+index*scale+offset]` or `[base, index]` moves per iteration."""
    names = re.findall(r"\b([a-z]\w*)\b(?:\*(\d))?", memory)
    return sum(steps.get(name, 0) * int(scale or 1) for name, scale in names)


def _post_increment(one: Instruction) -> int:
    found = re.search(r"\], #(-?\d+)$", one.operands)
    return int(found[1]) if found else 0
