"""Compiles translated kernels with the system's C++ compiler and loads them; everything built is cached.

There are two kinds of build. *fast*: optimised, guarded by the memory protection of the processor. *checked*: every
access to memory calls the checker, by way of the compiler's thread-sanitizer instrumentation; the sanitizer's own
library is not used. The run time is compiled once per kind and linked into every kernel.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from autoresearch_common import compiler as system_compiler
from autoresearch_common.instruction_set import features
from autoresearch_mlx.metal_cpu.errors import CompileFailed, CompilerMissing, CompilerUnsuitable
from autoresearch_mlx.metal_cpu.signature import HEADER_LINES

INCLUDE = Path(__file__).with_name("include")
_INCLUDES = ("-iquote", str(INCLUDE))
_COMMON = (
    "-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-exceptions",
    "-fno-rtti", "-fno-strict-aliasing", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-w",
    "-U_FORTIFY_SOURCE",
)  # fmt: skip
_PROBE = "_Float16 twice(_Float16 x) { return x + x; }\n"
# Binary16 is rounded after every operation, not where an expression ends: what compilers call it, where they know it.
_ROUNDING = ("-fexcess-precision=16", "-ffloat16-excess-precision=none")


def shared_object(code: str, checked: bool, *, defines: tuple[str, ...] = ()) -> Path:
    """The shared object of a translation unit. `defines` select variants of the run time.

    Raises CompilerMissing, CompilerUnsuitable, or CompileFailed with the first error in terms of the kernel's source.
    """
    command, version = _compiler()
    flags = [*_COMMON, *_kind_flags(checked, "clang" in version), *(f"-D{define}" for define in defines)]
    runtime = _runtime(checked, tuple(flags))
    name = system_compiler.digest([code.encode(), _headers(), repr((command, version, flags)).encode()])

    def make(target: Path) -> None:
        source, compiled = target.with_suffix(".cpp"), target.with_suffix(".o")
        source.write_text(code)
        try:
            system_compiler.run(
                [*command, *flags, "-iquote", str(INCLUDE), "-c", str(source), "-o", str(compiled)], "the kernel"
            )
            system_compiler.run(
                [*command, "-shared", str(compiled), str(runtime), "-lm", "-o", str(target)], "the kernel"
            )
        except system_compiler.CompileFailed as error:
            raise CompileFailed(_in_kernel_terms(str(error)), error.output) from None

    return system_compiler.cached("metal_cpu", f"{name}.so", make)


@cache
def load(path: Path) -> ctypes.CDLL:
    """A shared object in this process, once."""
    library = ctypes.CDLL(str(path))
    library.msl_launch.restype = ctypes.c_int
    return library


def available() -> bool:
    """Whether kernels can be run here: there is a C++ compiler, and it knows binary16."""
    try:
        _compiler()
    except (CompilerMissing, CompilerUnsuitable):
        return False
    return True


@cache
def _runtime(checked: bool, flags: tuple[str, ...]) -> Path:
    command, version = _compiler()
    # The run time itself must not be instrumented: it is what the instrumentation calls.
    own = [flag for flag in flags if not flag.startswith("-fsanitize")]
    own += ["-O3", "-DMSL_CHECKED"] if checked else ["-O3"]
    name = system_compiler.digest([_headers(), repr((command, version, own)).encode()])

    def make(target: Path) -> None:
        source = INCLUDE / "runtime.cpp"
        system_compiler.run(
            [*command, *own, "-iquote", str(INCLUDE), "-c", str(source), "-o", str(target)], source.name
        )

    return system_compiler.cached("metal_cpu", f"runtime-{name}.o", make)


@cache
def _headers() -> bytes:
    files = sorted(path for path in INCLUDE.iterdir() if path.suffix in (".h", ".cpp"))
    return b"\0".join(path.read_bytes() for path in files)


def _kind_flags(checked: bool, clang: bool) -> list[str]:
    flags = ["-gline-tables-only" if clang else "-g1"]
    if checked:
        flags += ["-O1", "-fsanitize=thread", "-DMSL_CHECKED"]
        if clang:
            # By default clang leaves out reads that a write to the same place follows, and accesses of more than 16
            # bytes at once, which its vectorisers make.
            flags += ["-mllvm", "-tsan-instrument-read-before-write=1", "-fno-vectorize", "-fno-slp-vectorize"]
    else:
        flags += ["-O2"]
    if sys.platform == "linux":
        flags += ["-fstack-clash-protection"]  # a frame larger than the guard page must not step over it
    if platform.machine() in ("x86_64", "AMD64"):
        flags += ["-fcf-protection=none"]
        if "f16c" in features():
            flags += ["-mf16c"]
    return flags


@cache
def _compiler() -> tuple[tuple[str, ...], str]:
    """The compiler's command, with the flags that only some know, and its version."""
    try:
        command, version = system_compiler.find()
    except system_compiler.CompilerMissing as error:
        raise CompilerMissing(f"{error}; without it Metal kernels cannot be run on the CPU") from None
    try:
        _try_flags(command, version)
    except system_compiler.CompileFailed as error:
        raise CompilerUnsuitable(f"{command[0]} has no _Float16 (g++ 12 or clang 15 have it): {error}") from None
    known = []
    for flag in _ROUNDING:
        with suppress(system_compiler.CompileFailed):
            _try_flags((*command, "-Werror", flag), version)
            known.append(flag)
    return (*command, *known), version


def _try_flags(command: tuple[str, ...], version: str) -> None:
    """Compile a line of binary16 arithmetic; remembered when it worked. Raises CompileFailed."""

    def make(target: Path) -> None:
        source = target.with_suffix(".cpp")
        source.write_text(_PROBE)
        system_compiler.run([*command, "-std=gnu++17", "-c", str(source), "-o", str(target)], "_Float16")

    system_compiler.cached("metal_cpu", system_compiler.digest([repr((command, version)).encode()]) + ".o", make)


def _in_kernel_terms(message: str) -> str:
    """Replace the line numbers of the translation unit by those of the header and the body."""
    where, mark, rest = message.partition("kernel.metal:")
    if not mark:
        return message
    number = int(rest.partition(":")[0])
    place = f"header, line {number - HEADER_LINES}" if number > HEADER_LINES else f"source, line {number}"
    return f"the translated kernel does not compile: {place}: {rest.partition('error:')[2].strip() or rest}"
