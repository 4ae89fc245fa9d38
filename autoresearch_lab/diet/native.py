"""A kernel's C++ or CUDA, read by its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from autoresearch_lab.paths import CHECKOUT

ALLOWED_HEADERS = frozenset(
    "algorithm array atomic bit cassert cfloat climits cmath complex concepts cstddef cstdint cstdlib cstring "
    "functional initializer_list iterator limits memory new numbers numeric optional span tuple type_traits "
    "utility variant vector stdlib.h "
    "assert.h float.h limits.h math.h stddef.h stdint.h string.h "
    "omp.h immintrin.h arm_neon.h arm_bf16.h arm_fp16.h arm_sve.h "
    "cooperative_groups.h cuda_bf16.h cuda_fp16.h cuda_fp8.h cuda_runtime.h mma.h".split()
)
# Each as a whole word, with what it is for. Words that a kernel might use for something of its own are further down.
_WORDS = (
    (r"v?fork|exec[lv][pe]{0,2}|posix_spawnp?|popen|ptrace|syscall", "is for other processes or the system"),
    (r"dlm?open|dlsym|dlclose|dladdr", "loads other native code"),
    (r"(?:secure_)?getenv|setenv|unsetenv|putenv|clearenv|environ", "is for the environment"),
    (r"fopen|freopen|fdopen|[io]?fstream|openat|mkstemp", "is for files"),
    (r"pthread_\w+|jthread|thrd_\w+|sched_\w+|sem_open", "is for threads beyond those of one call"),
    (r"(?:omp|kmp|mkl|openblas)_set_\w+", "sets threads for everybody"),
    (r"shmget|shmat|shm_open|mmap|munmap|mremap|mprotect|mallopt|sbrk", "is for the memory of the process"),
    (r"[sg]etrlimit|prlimit", "is for the limits of the process"),
    (r"fesetround|fesetenv|feholdexcept|feenableexcept", "changes arithmetic for everybody"),
    (r"_MM_SET_\w+|_mm_setcsr|__builtin_ia32_ldmxcsr", "changes arithmetic for everybody"),
    (r"asm|__asm|__asm__", "cannot be read here"),
    (r"srand|s?rand48|drand48|random_device|mt19937(?:_64)?", "draws random numbers"),
    (r"clock_gettime|gettimeofday|timespec_get|(?:steady|system|high_resolution)_clock", "reads the clock"),
    (r"__?rdtscp?|__builtin_ia32_rdtscp?", "reads the clock"),
    (r"sigaction|longjmp|setjmp|atexit|at_quick_exit|quick_exit", "leaves the call by another way than its end"),
)
_WORD = re.compile("|".join(rf"(?P<w{number}>\b(?:{words})\b)" for number, (words, _) in enumerate(_WORDS)))
# Ordinary words: only where one is called that is no member of something and is not declared there.
_CALLED = re.compile(
    r"(?:(?P<before>[A-Za-z_]\w*|->|\.)\s*)??(?P<space>\b(?:std\s*)?::\s*)?\b(?P<name>system|time|clock|rand|signal|raise|"
    r"kill|exit|_exit|_Exit|abort|open|creat|socket|connect|sleep|usleep|nanosleep|unlink)\s*\("
)
_STD_THREAD = re.compile(r"\bstd\s*::\s*(?:this_)?(thread|async)\b")
_BEFORE_MAIN = re.compile(r"(?:__attribute__\s*\(\(|gnu\s*::)[^)\]]*?\b_*(constructor|destructor|ifunc)_*\b")
_STATEMENT_WORDS = frozenset({"return", "case", "else", "do", "throw", "co_return", "and", "or", "not"})
_TOKENS = re.compile(
    r"""(?P<comment>//(?:\\\r?\n|[^\n])*|/\*.*?(?:\*/|\Z))
    |(?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?(?:\)(?P=mark)"|\Z))
    |(?P<number>\.?\d(?:'?[\w.])*)
    |(?P<text>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)
    |(?P<word>[A-Za-z_]\w*)""",
    re.DOTALL | re.VERBOSE,
)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*(?:include|include_next|import)\b[ \t]*(.*)$", re.MULTILINE)


def read(text: str) -> Iterator[tuple[int, str]]:
    """(line, what it does beyond the diet); comments and texts are left out."""
    text = _without(text, "comment")
    for match in _INCLUDE.finditer(text):
        if (what := _included(match.group(1).strip())) is not None:
            yield _line(text, match.start(1)), what
    code = _without(text, "text", "raw")
    code = _INCLUDE.sub("", code)
    for match in _WORD.finditer(code):
        _, why = _WORDS[int((match.lastgroup or "w0")[1:])]
        yield _line(code, match.start()), f"uses {match.group()}, which {why}"
    for match in _CALLED.finditer(code):
        before = match["before"]
        if (match["space"] or "").startswith("std") or before is None or before in _STATEMENT_WORDS:
            yield _line(code, match.start("name")), f"calls {match['name']}, which does more than compute"
    for match in _STD_THREAD.finditer(code):
        yield _line(code, match.start()), f"uses std::{match[1]}; OpenMP's threads end with the call"
    for match in _BEFORE_MAIN.finditer(code):
        yield _line(code, match.start(1)), f"has a function that runs by itself when it is loaded or left ({match[1]})"


def _without(text: str, *kinds: str) -> str:
    """C++ with such tokens as blanks; every character stays at its place."""

    def blank(match: re.Match[str]) -> str:
        taken = any(match[kind] is not None for kind in kinds)
        return re.sub(r"[^\n]", " ", match.group()) if taken else match.group()

    return _TOKENS.sub(blank, text)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


@cache
def _own_headers() -> frozenset[str]:
    return frozenset(path.name for path in (CHECKOUT / "autoresearch_cuda").glob("*.h"))


def _included(words: str) -> str | None:
    """What is wrong with the operand of an #include; None for an allowed header."""
    named = re.match(r'[<"]([^>"]*)[>"]', words)
    if named is None:
        return f"includes {words or 'nothing'}, which cannot be read here"
    if named[1] in _own_headers() or (named[1] in ALLOWED_HEADERS and words[0] == "<"):
        return None
    return f"includes {named[1]}; a kernel needs this project's headers and the standard ones for computing"
