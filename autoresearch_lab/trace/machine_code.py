"""What the compiler made of a C++ kernel: its loops as objdump shows them, and, where perf may watch, their time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common import compiler
from autoresearch_lab import jobs
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.results.trace import LineTime, MachineCodeResults, MachineLoop
from autoresearch_lab.trace import instructions, objdump, perf
from autoresearch_lab.trace.launch import run_under
from autoresearch_lab.trace.loops import Loop, loops_of
from autoresearch_lab.trace.objdump import Instruction
from autoresearch_trainer.jobs.timing import ONE_CALL, OneCallArgs

MOST_LOOPS, MOST_LINES = 12, 12
REPEAT_SECONDS, SECONDS = 3.0, 600.0


@dataclass(frozen=True)
class Watched:
    """What was seen of a call. perf: path of the program, None where it did not watch."""

    results: MachineCodeResults
    perf: str | None


def measure(program: str, engine: Engine, args: OneCallArgs, *, run_dir: Path) -> Watched:
    """Run a kernel's call and take its machine code apart. program: objdump.

    The kernel is compiled with a table of source lines, which does not change the code.

    Raises:
        LabError: the kernel does not load, or has no C++ source.
        LabFailure: it failed, or objdump cannot read what was compiled.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    source = Path(args.kernel.path).with_suffix(".cpp")
    if not source.is_file():
        raise LabError(f"deep-profile: on a CPU it takes C++ kernels apart; {args.kernel.name} has no {source.name}")
    try:
        variables = {"CXX": f"{' '.join(compiler.find()[0])} -g"}
    except compiler.CompilerMissing as error:
        raise LabError(f"deep-profile: {error}") from None
    sampler, why = perf.find(run_dir)
    counts: Counter[tuple[str, int]] = Counter()
    if sampler is None:
        answer = jobs.call(engine, ONE_CALL, args, run_dir=run_dir, variables=variables)
    else:
        data = run_dir / "perf.data"
        repeated = args.model_copy(update={"seconds": REPEAT_SECONDS})
        answer, _ = run_under(
            perf.recording(sampler, data), engine, ONE_CALL, repeated,
            run_dir=run_dir, seconds=SECONDS, variables=variables,
        )  # fmt: skip
        counts = perf.samples(sampler, data, Path(answer.native or ""))
    code = objdump.disassemble(program, Path(answer.native or ""))
    loops = described(code, counts)
    unwatched = why or (None if counts else "perf never found the kernel's own code running: the call is too short")
    results = MachineCodeResults(
        loops=loops[:MOST_LOOPS],
        further_loops=max(0, len(loops) - MOST_LOOPS),
        lines=lines_of(code, counts, source),
        unwatched=unwatched,
        call_ms=answer.call_ms,
        own_samples=counts.total() if sampler else None,
    )
    return Watched(results, sampler)


def described(code: Mapping[str, Sequence[Instruction]], counts: Counter[tuple[str, int]]) -> list[MachineLoop]:
    """The loops that were found running, hottest first; without samples those that compute floating-point numbers, most
    per iteration first."""
    found: list[tuple[float, float, MachineLoop]] = []
    for function, body in code.items():
        start, framed = body[0].address if body else 0, instructions.has_frame_pointer(body)
        for loop in loops_of(function, body):
            hits = sum(counts[function, one.address - start] for one in loop.own)
            row = describe(loop, framed, hits / counts.total() if counts else None)
            if hits if counts else row.arithmetic:
                found.append((hits, row.arithmetic * row.bits, row))
    return [row for _, _, row in sorted(found, key=lambda one: one[:2], reverse=True)]


def describe(loop: Loop, frame_pointer: bool, share: float | None) -> MachineLoop:
    """One loop as the record has it."""
    own = loop.own
    file, lines = _origin(own)
    work = [one for one in own if instructions.is_arithmetic(one)]
    width = max(map(instructions.bits, work), default=0)
    moved: Counter[str] = Counter()
    for one in own:
        loads, stores = instructions.stack_access(one, frame_pointer)
        kind = "vector_" if instructions.moves_vector(one) else ""
        moved.update({f"{kind}loads": int(loads), f"{kind}stores": int(stores)})
    return MachineLoop(
        function=loop.function,
        file=file,
        lines=lines,
        share=share,
        depth=_depth(loop),
        bits=width,
        instructions=len(own),
        arithmetic=len(work),
        fma=sum(map(instructions.is_fma, work)),
        dot=sum(map(instructions.is_dot, work)),
        elements=instructions.elements(own, width) if width and not loop.inner else None,
        vector_loads=moved["vector_loads"],
        vector_stores=moved["vector_stores"],
        loads=moved["loads"],
        stores=moved["stores"],
    )


def lines_of(
    code: Mapping[str, Sequence[Instruction]], counts: Counter[tuple[str, int]], source: Path
) -> list[LineTime]:
    """The lines that most time was found in. An instruction that is waited for gets its time at the one after it."""
    places = {(name, one.address - body[0].address): one.place for name, body in code.items() for one in body}
    by_line: Counter[tuple[str, int]] = Counter()
    for key, count in counts.items():
        if (place := places.get(key)) is not None:
            by_line[place] += count
    return [
        LineTime(file=Path(file).name, line=line, share=count / counts.total(), text=_text(source, file, line))
        for (file, line), count in by_line.most_common(MOST_LINES)
    ]


def _depth(loop: Loop) -> int:
    return max((1 + _depth(inner) for inner in loop.inner), default=0)


def _origin(code: Sequence[Instruction]) -> tuple[str | None, tuple[int, int] | None]:
    """The file that most instructions come from and the lines in it: the kernel's own, else a header beside it, else
    one of the compiler's, which holds the intrinsics."""
    places = [one.place for one in code if one.place is not None]
    own = [place for place in places if place[0].endswith(".cpp")]
    own = own or [place for place in places if "/include/" not in place[0]] or places
    if not own:
        return None, None
    file = Counter(file for file, _ in own).most_common(1)[0][0]
    lines = [line for name, line in own if name == file]
    return Path(file).name, (min(lines), max(lines))


def _text(source: Path, file: str, line: int) -> str:
    """The object may have been compiled from a copy of the source that is gone."""
    try:
        return (
            (source if Path(file).name == source.name else Path(file))
            .read_text(encoding="utf-8")
            .splitlines()[line - 1]
            .strip()
        )
    except (OSError, IndexError, UnicodeDecodeError):
        return ""
