"""What a launch computes, read from the compiler's own code (TTIR) at the sizes of its arguments.

Integers are intervals, from the numbers of the programs and the arguments' values on. One that can leave its 32 bits is
found, offset or not: no rule about how a kernel is written could be so simple. Beside that it is counted what programs
do: special functions, operations of matrix products; and seen which arguments they read and write.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torch import Tensor

from autoresearch_cuda.probe.compilation import gpu_target
from autoresearch_cuda.probe.launches import Launch

# Least and greatest value; of a pointer the argument that it points into; None: unknown.
Known: TypeAlias = tuple[float, float] | str | None

SAMPLED = 32  # programs along the first axis whose work is counted
_LINE = re.compile(r"(?:(%[\w#:, %]+?) = )?\"?((?:arith|math|tt|scf|cf|ttg)\.[\w.]+)\"?(.*)")
_NAME = re.compile(r"%[\w]+(?:#\d+)?")
_SHAPE = re.compile(r"tensor<((?:\d+x)+)")
_DOT = re.compile(r"tensor<(\d+)x(\d+)x\w+> \* tensor<\d+x(\d+)x")
_SPECIAL = {"exp", "exp2", "log", "log2", "rsqrt", "sqrt", "divf", "precise_sqrt", "precise_divf"}
_SAME = {
    *("splat", "expand_dims", "broadcast", "reshape", "trans", "unsplat", "extsi", "extui", "trunci", "sitofp", "extf"),
    *("truncf", "fptosi"),
}


def _corners(one: tuple[float, float], other: tuple[float, float], of: Callable[[float, float], float]) -> Known:
    values = [of(a, b) for a in one for b in other]
    return min(values), max(values)


def _remainder(a: tuple[float, float], b: tuple[float, float]) -> Known:
    if b[0] <= 0:
        return None
    return (0 if a[0] >= 0 else max(a[0], 1 - b[1])), (min(a[1], b[1] - 1) if a[1] >= 0 else 0)


_ARITHMETIC: dict[str, Callable[[tuple[float, float], tuple[float, float]], Known]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": lambda a, b: _corners(a, b, lambda x, y: x * y),
    "div": lambda a, b: (
        _corners(a, b, lambda x, y: x / y if isinstance(x, float) else int(x / y)) if b[0] > 0 else None
    ),
    "rem": _remainder,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "and": lambda a, b: (0, min(a[1], b[1])) if a[0] >= 0 and b[0] >= 0 else None,
    "shl": lambda a, b: _corners(a, b, lambda x, y: x * 2**y),
}


@dataclass
class Found:
    """Of one launch. narrow: what can leave its 32 bits, as TTIR has it. special: numbers put through a special
    function; products: operations of matrix products. loaded, stored: arguments. optional: what its memory says may end
    every program at once, before any work. loops: it has some."""

    narrow: list[str] = field(default_factory=list)
    special: float = 0.0
    products: float = 0.0
    loaded: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    optional: bool = False
    loops: bool = False


def read(launch: Launch, arch: str) -> Found:
    """Bounds hold for all programs; counts are those of some programs, evenly spread, times the number of all."""
    lines, grid = list(_lines(ttir(launch, arch))), launch.programs
    values: dict[str, Known] = {"%" + name: _value(name, value) for name, value in launch.arguments.items()}
    found, counted = Found(), Found()
    _run(lines, dict(values), grid, [(0, n - 1) for n in grid], found)
    some = sorted({grid[0] * n // SAMPLED for n in range(SAMPLED)})
    for program in some:
        _run(lines, dict(values), grid, [(program, program), *[(0, 0)] * (len(grid) - 1)], counted)
    share = math.prod(grid) / len(some)
    return replace(found, special=counted.special * share, products=counted.products * share)


def ttir(launch: Launch, arch: str) -> str:
    """The launch's kernel as Triton's first intermediate code, helpers written out."""
    from triton._C.libtriton import ir
    from triton.compiler.compiler import ASTSource, make_backend

    target = gpu_target(arch)
    backend = make_backend(target)
    signature, constants, attributes = launch.specialised(backend)
    source = ASTSource(fn=launch.function, signature=signature, constexprs=constants, attrs=attributes)
    options = backend.parse_options(dict(launch.options))
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    implementation = backend.get_codegen_implementation(options)
    module = source.make_ir(target, options, implementation, backend.get_module_map(), context)
    return str(backend.make_ttir(module, {}, options, target.arch))


def _value(name: str, value: object) -> Known:
    if isinstance(value, Tensor):
        return name
    return (value, value) if isinstance(value, int | float) else None


def _lines(text: str) -> Iterator[str]:
    """Without places in the source, and without what happens inside a reduction."""
    inside = False
    for line in text.splitlines():
        line = line.partition(" loc(")[0].strip()
        if not inside and not line.startswith("#"):
            yield line
        inside = (inside or line.endswith("({")) and not line.startswith("})")


def _run(
    lines: list[str], values: dict[str, Known], grid: tuple[int, ...], program: list[tuple[int, int]], found: Found
) -> None:
    """Once through the text; the body of a loop once for all its turns."""
    turns = [1.0]
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            if line.startswith("}") and "else" not in line and len(turns) > 1:
                turns.pop()
            continue
        result, operation, rest = match.groups()
        name = operation.partition(".")[2]
        operands = [values.get(one) for one in _NAME.findall(rest)]
        shape = _SHAPE.search(rest)
        size = math.prod(map(int, shape[1].split("x")[:-1])) if shape else 1
        found.optional |= operation == "cf.cond_br"
        found.loops |= operation == "scf.for"
        if operation == "scf.for":
            turns.append(turns[-1] * _enter(rest, result, operands, values))
        elif operation == "scf.if":
            turns.append(turns[-1])
        elif name in ("load", "store", "atomic_add"):
            (found.loaded if name == "load" else found.stored).update(o for o in operands[:1] if isinstance(o, str))
        elif name == "dot":
            rows, depth, columns = map(int, _DOT.search(rest).groups())  # type: ignore[union-attr]
            found.products += 2 * rows * depth * columns * turns[-1]
        elif name in _SPECIAL and size > 1:
            found.special += size * turns[-1]
        if name == "addptr" and rest.endswith(("i32", "i32>")) and operands[1] is None:
            found.narrow.append(line)  # an offset that nothing is known of
        if result is None or operation.startswith("scf."):
            continue
        value = _result(name, rest, operands, grid, program)
        bits = re.search(r"i(\d+)>?$", rest)
        if bits and isinstance(value, tuple) and bits[1] != "1":
            limit = 2 ** (int(bits[1]) - 1)
            if not -limit <= value[0] <= value[1] < limit:
                found.narrow.append(line)
                value = None
        values[result] = value


def _enter(rest: str, result: str | None, operands: list[Known], values: dict[str, Known]) -> float:
    """Names that a loop defines; returns the number of its turns on average over the programs."""
    names = _NAME.findall(rest)
    start, end, step = operands[1:4]
    known = [one if isinstance(one, tuple) else (0, 0) for one in (start, end, step)]
    values[names[0]] = (
        (known[0][0], max(known[0][0], known[1][1] - 1)) if all(isinstance(o, tuple) for o in operands[1:4]) else None
    )
    carried = re.search(r"iter_args\((.*?)\) ->", rest)
    for place, pair in enumerate(carried[1].split(", ") if carried else []):
        one, _, first = pair.partition(" = ")
        # A pointer stays within its argument; a number that a loop carries on may become anything.
        values[one] = kept = values.get(first) if isinstance(values.get(first), str) else None
        if result:
            base = result.partition(":")[0]
            values[base if ":" not in result else f"{base}#{place}"] = kept
    return max(0.0, math.ceil((known[1][0] - known[0][0]) / max(1, known[2][0])))


def _result(
    name: str, rest: str, operands: list[Known], grid: tuple[int, ...], program: list[tuple[int, int]]
) -> Known:
    if name == "constant":
        number = re.match(r" (?:dense<)?(-?[\d.]+(?:e[+-]?\d+)?|true|false)>? :", rest)
        if number is None:
            return None
        word = number[1].replace("true", "1").replace("false", "0")
        value = float(word) if "." in word else int(word)
        return value, value
    if name in ("get_program_id", "get_num_programs"):
        axis = "xyz".index(rest.split()[0])
        sizes = [*grid, 1, 1]
        return [*program, (0, 0), (0, 0)][axis] if name == "get_program_id" else (sizes[axis], sizes[axis])
    if name == "make_range":
        end, start = (int(re.search(rf"{word} = (\d+)", rest)[1]) for word in ("end", "start"))  # type: ignore[index]
        return start, end - 1
    one, other = [*operands, None, None][:2]
    if name == "fptosi" and isinstance(one, tuple):
        return int(one[0]), int(one[1])
    if name == "addptr" or name in _SAME:
        return one
    if name == "select":
        one, other = operands[1:3]
        if isinstance(one, tuple) and isinstance(other, tuple):
            return min(one[0], other[0]), max(one[1], other[1])
        return one if one == other else None
    if name == "sqrt" and isinstance(one, tuple) and one[0] >= 0:
        return math.sqrt(one[0]), math.sqrt(one[1])
    kind = _ARITHMETIC.get(name[:3])
    if kind is None:
        return None
    if name[:3] in ("min", "rem", "and") and isinstance(other, tuple) and not isinstance(one, tuple):
        one = (-math.inf, math.inf)
    if not isinstance(one, tuple) or not isinstance(other, tuple):
        return None
    found = kind(one, other)
    return found if isinstance(found, tuple) and all(map(math.isfinite, found)) else None
