"""Linux's sampling profiler: which instructions of a shared object were running."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.sandbox.supervisor import below
from autoresearch_lab.trace.launch import complaint

PROGRAM = "perf"
PER_SECOND = 2000
SECONDS = 120.0

# "  7fefa551835b work+0x8b (/folder/name.so)"
_SAMPLE = re.compile(r"^\s*[0-9a-f]+ (\S+)\+0x([0-9a-f]+) \((.+)\)$")


def recording(program: str, data: Path) -> list[str]:
    """The command that runs another one and samples it into `data`. The event is perf's choice: cycles, or a clock on
    a virtual machine that has no counters."""
    return [program, "record", "--quiet", "-F", str(PER_SECOND), "-o", str(data), "--"]


def find(folder: Path) -> tuple[str | None, str]:
    """(path of perf, "") where it may sample; else (None, why not, in a line)."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None, "perf is not installed: no time by line"
    try:
        _run([*recording(program, folder / "trial.data"), shutil.which("true") or "true"])
    except LabFailure as error:
        return None, f"{error}: no time by line"
    return program, ""


def samples(program: str, data: Path, path: Path) -> Counter[tuple[str, int]]:
    """{(function, offset into it): how often it was found running} in the shared object at `path`.

    Raises:
        LabFailure: perf cannot read what it wrote.
    """
    told = _run([program, "script", "-i", str(data), "-F", "ip,sym,symoff,dso", "--no-demangle"])
    found = (_SAMPLE.match(line) for line in told.splitlines())
    return Counter((one[1], int(one[2], 16)) for one in found if one and Path(one[3]) == path)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(below(command), capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise LabFailure(f"perf failed: {error}") from None
    if done.returncode:
        raise LabFailure(f"perf may not sample here: {complaint(done.stdout, done.stderr)}")
    return done.stdout
