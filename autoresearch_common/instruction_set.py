"""The instruction sets that C++ kernels are compiled for: which of them this processor has, and which one is in use.

A kernel's source is compiled for one of them, which the process decides when it loads the kernel: the best that the
processor has, or the one that $AUTORESEARCH_INSTRUCTION_SET names. Nothing is left to -march=native, so that every
path through a source can be built and tested on any machine that has it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VARIABLE = "AUTORESEARCH_INSTRUCTION_SET"


class InstructionSetError(ValueError):
    """$AUTORESEARCH_INSTRUCTION_SET names none that this processor has."""


@dataclass(frozen=True)
class InstructionSet:
    """needs: what the processor must have, as /proc/cpuinfo spells it; flags: what tells the compiler so. Sources see
    the name as a macro, such as INSTRUCTION_SET_AVX2 (see vector.h)."""

    name: str
    needs: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()

    @property
    def compiler_flags(self) -> tuple[str, ...]:
        return (*self.flags, f"-DINSTRUCTION_SET_{self.name.upper()}")


_V3 = ("avx2", "fma", "f16c", "bmi1", "bmi2")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_V3_FLAGS = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2")
# gcc keeps to half-width vectors unless told.
_V4_FLAGS = (*_V3_FLAGS, *(f"-m{name}" for name in _V4[len(_V3) :]), "-mprefer-vector-width=512")
_PLAIN = InstructionSet("plain")
# Best first.
_X86 = (
    InstructionSet("avx512_bf16", frozenset((*_V4, "avx512_bf16")), (*_V4_FLAGS, "-mavx512bf16")),
    InstructionSet("avx512", frozenset(_V4), _V4_FLAGS),
    InstructionSet("avx2", frozenset(_V3), _V3_FLAGS),
    _PLAIN,
)
_ARM = (
    InstructionSet("neon_bf16", frozenset(("asimd", "bf16")), ("-march=armv8.2-a+fp16+dotprod+bf16",)),
    InstructionSet("neon", frozenset(("asimd",))),
    _PLAIN,
)


def known(machine: str = "") -> tuple[InstructionSet, ...]:
    """Those of a kind of machine (default: this one), best first; the last one needs nothing."""
    machine = machine or platform.machine()
    families = {"x86_64": _X86, "AMD64": _X86, "arm64": _ARM, "aarch64": _ARM}
    return families.get(machine, (_PLAIN,))


def available() -> tuple[InstructionSet, ...]:
    """Those that this processor has, best first."""
    return tuple(each for each in known() if each.needs <= features())


def active() -> InstructionSet:
    """The one that kernels are compiled for here. Raises InstructionSetError, see there."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return available()[0]
    for each in available():
        if each.name == wanted:
            return each
    names = ", ".join(each.name for each in available())
    raise InstructionSetError(f"{VARIABLE}={wanted}: this processor has {names}")


@cache
def features() -> frozenset[str]:
    """What the processor has and the system lets programs use, as /proc/cpuinfo spells it; empty where nothing says."""
    if sys.platform == "darwin":
        return _features_from_sysctl()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (value for key, _, value in (line.partition(":") for line in lines) if key.strip() in ("flags", "Features"))
    return frozenset(next(found, "").split())


def _features_from_sysctl() -> frozenset[str]:
    """A Mac's, in the words of Linux."""
    try:
        done = subprocess.run(["sysctl", "hw.optional"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    enabled = (line.partition(":")[0] for line in done.stdout.splitlines() if line.endswith(": 1"))
    on = {name.rpartition(".")[2].lower() for name in enabled}
    names = {"neon": "asimd", "feat_fp16": "asimdhp", "feat_bf16": "bf16", "feat_i8mm": "i8mm", "feat_sme": "sme"}
    names |= {"advsimd": "asimd", "avx1_0": "avx", "avx2_0": "avx2"}
    # Macs that have AVX2 have these, too, which sysctl lists elsewhere or not at all.
    with_avx2 = {"f16c", "bmi1", "bmi2"} if "avx2_0" in on else set()
    return frozenset({names.get(name, name) for name in on} | with_avx2)
