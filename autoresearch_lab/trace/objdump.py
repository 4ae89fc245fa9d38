"""The machine code of a shared object, read by objdump: functions, their instructions, and the lines they are from."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.sandbox.supervisor import below
from autoresearch_lab.trace.launch import complaint

SECONDS = 120.0
# No raw bytes, source lines, and on x86 the destination first, as on every other processor.
OPTIONS = ("-d", "-l", "--no-show-raw-insn", "-M", "intel")

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(.+)$")
_LINE = re.compile(r"^(/.*):(\d+)(?: \(discriminator \d+\))?$")
_PREFIXES = frozenset(
    {"bnd", "notrack", "lock", "rep", "repz", "repnz", "data16", "cs", "ds", "es", "fs", "gs", "{vex}"}
)


@dataclass(frozen=True)
class Instruction:
    """operands: as printed. place: source file and line; None where the compiler names none."""

    address: int
    mnemonic: str
    operands: str
    place: tuple[str, int] | None = None


def disassemble(program: str, path: Path) -> dict[str, list[Instruction]]:
    """{function: its instructions} of the object at `path`.

    Raises:
        LabFailure: objdump cannot read it; one line says why.
    """
    intel = OPTIONS if _reads_x86(program, path) else OPTIONS[:-2]
    functions = parse(_run([program, *intel, str(path)]))
    if not functions:
        raise LabFailure(f"objdump finds no functions in {path}")
    return functions


def parse(text: str) -> dict[str, list[Instruction]]:
    """The functions in what `objdump -d -l --no-show-raw-insn` printed; calls through tables (`name@plt`) are none."""
    functions: dict[str, list[Instruction]] = {}
    body: list[Instruction] = []
    place: tuple[str, int] | None = None
    for line in text.splitlines():
        if found := _FUNCTION.match(line):
            body, place = [], None
            if "@plt" not in found[1]:
                functions[found[1]] = body
        elif found := _LINE.match(line):
            place = (found[1], int(found[2]))
        elif found := _INSTRUCTION.match(line):
            body.append(_instruction(int(found[1], 16), found[2], place))
    return functions


def _instruction(address: int, text: str, place: tuple[str, int] | None) -> Instruction:
    words = re.split(r"\s+(?:#|//|;)\s", text, maxsplit=1)[0].split()
    while len(words) > 1 and words[0] in _PREFIXES:
        words.pop(0)
    return Instruction(address, words[0], " ".join(words[1:]), place)


def _reads_x86(program: str, path: Path) -> bool:
    return "x86-64" in _run([program, "-f", str(path)])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(below(command), capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise LabFailure(f"objdump failed: {error}") from None
    if done.returncode:
        raise LabFailure(f"objdump failed: {complaint(done.stderr)}")
    return done.stdout
