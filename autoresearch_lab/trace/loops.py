"""The loops of a function of machine code: natural loops, found by dominators in its graph of basic blocks.

Aho, Lam, Sethi and Ullman, Compilers, section 9.6. A jump backwards alone would not do: compilers move the rare part of
a loop's body behind its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from autoresearch_lab.trace.objdump import Instruction

_JUMP = re.compile(r"j[a-z]+|b(\.[a-z]+)?|cbn?z|tbn?z")
_ENDS = frozenset({"jmp", "b", "br", "ret", "ud2", "hlt", "brk"})
_TARGET = re.compile(r"(?:^|,\s*)(?:0x)?([0-9a-f]+)(?: <|$)")


@dataclass(frozen=True)
class Loop:
    """own: its instructions that lie in no inner loop, by address. inner: the loops directly or indirectly inside."""

    function: str
    instructions: tuple[Instruction, ...]
    inner: tuple[Loop, ...]

    @cached_property
    def own(self) -> tuple[Instruction, ...]:
        inside = {one.address for loop in self.inner for one in loop.instructions}
        return tuple(one for one in self.instructions if one.address not in inside)


def loops_of(function: str, code: Sequence[Instruction]) -> list[Loop]:
    """Every loop of a function, inner ones first."""
    blocks = _blocks(code)
    bodies = _natural_loops(_successors(blocks))
    found: dict[frozenset[int], Loop] = {}
    for body in sorted(bodies, key=len):
        inner = tuple(loop for other, loop in found.items() if other < body)
        found[body] = Loop(function, tuple(one for number in sorted(body) for one in blocks[number]), inner)
    return list(found.values())


def jump_target(one: Instruction) -> int | None:
    """Where a jump inside a function goes; None for other instructions, and where a register says it."""
    if not _JUMP.fullmatch(one.mnemonic):
        return None
    found = _TARGET.search(one.operands)
    return int(found[1], 16) if found else None


def _blocks(code: Sequence[Instruction]) -> list[list[Instruction]]:
    targets = {jump_target(one) for one in code}
    blocks: list[list[Instruction]] = []
    ended = True
    for one in code:
        if ended or one.address in targets:
            blocks.append([])
        blocks[-1].append(one)
        ended = jump_target(one) is not None or one.mnemonic in _ENDS
    return blocks


def _successors(blocks: Sequence[Sequence[Instruction]]) -> list[list[int]]:
    starts = {block[0].address: number for number, block in enumerate(blocks)}
    follow = []
    for number, block in enumerate(blocks):
        last = block[-1]
        after = [starts[target]] if (target := jump_target(last)) in starts else []
        if last.mnemonic not in _ENDS and number + 1 < len(blocks):
            after.append(number + 1)
        follow.append(after)
    return follow


def _natural_loops(follow: Sequence[Sequence[int]]) -> set[frozenset[int]]:
    """Sets of block numbers; loops that share their head are one."""
    before: list[list[int]] = [[] for _ in follow]
    for number, after in enumerate(follow):
        for other in after:
            before[other].append(number)
    dominators = _dominators(follow, before)
    bodies: dict[int, set[int]] = {}
    for number, after in enumerate(follow):
        for head in after:
            if head in dominators.get(number, ()):
                bodies.setdefault(head, {head}).update(_reaching(number, head, before))
    return {frozenset(body) for body in bodies.values()}


def _reaching(start: int, head: int, before: Sequence[Sequence[int]]) -> Iterable[int]:
    seen, waiting = {head}, [start]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += before[number]
    return seen


def _dominators(follow: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> dict[int, frozenset[int]]:
    """{block that is reached from the first: the blocks on every way to it, itself among them}."""
    order: list[int] = []
    waiting = [0] if follow else []
    while waiting:
        number = waiting.pop()
        if number not in order:
            order.append(number)
            waiting += follow[number]
    reached = frozenset(order)
    found = {number: reached for number in order}
    found |= {number: frozenset({number}) for number in order[:1]}
    changed = True
    while changed:
        changed = False
        for number in order[1:]:
            ways = [found[other] for other in before[number] if other in reached]
            new = frozenset.intersection(*ways) | {number}
            changed |= new != found[number]
            found[number] = new
    return found
