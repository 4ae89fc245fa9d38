"""Reports of AddressSanitizer, as gcc and clang word them, in one line."""

from __future__ import annotations

import pytest

from autoresearch_lab.verify.sanitizer_report import read_report, sanitizer_trouble

REPORT = """=================================================================
==77==ERROR: AddressSanitizer: {kind} on address 0x621000822500 at pc 0x7f01 bp 0x7ffd sp 0x7ffd
{access} at 0x621000822500 thread T0
    #0 0x7f014fa65159 in load /checkout/autoresearch_cuda/vector.h:40
    #1 0x7f014fa65160 in rows._omp_fn.0 /checkout/kernels/rms_norm/kernel.cpp:12
    #2 0x7f01719c3f79  (/lib/x86_64-linux-gnu/libffi.so.8+0x6f79)

0x621000822500 is located {place}
allocated by thread T0 here:
    #0 0x7f0171ab7ffd in __interceptor_posix_memalign asan_malloc_linux.cpp:145

SUMMARY: AddressSanitizer: {kind} /checkout/kernels/rms_norm/kernel.cpp:12 in rows
"""


@pytest.mark.parametrize(
    ("kind", "access", "place", "words"),
    [
        (
            "heap-buffer-overflow", "READ of size 4", "4 bytes to the right of 4096-byte region [0x1,0x2)",
            "reads 4 bytes, 4 bytes past the end of a block of 4096 bytes, kernel.cpp line 12",
        ),
        (
            "heap-buffer-overflow", "WRITE of size 64", "0 bytes after 4096-byte region [0x1,0x2)",
            "writes 64 bytes right past the end of a block of 4096 bytes, kernel.cpp line 12",
        ),
        (
            "heap-buffer-overflow", "READ of size 4", "4 bytes before 64-byte region [0x1,0x2)",
            "reads 4 bytes, 4 bytes before the start of a block of 64 bytes, kernel.cpp line 12",
        ),
        (
            "heap-use-after-free", "READ of size 4", "8 bytes inside of 64-byte region [0x1,0x2)",
            "reads 4 bytes in a block of 64 bytes that was freed, kernel.cpp line 12",
        ),
        (
            "global-buffer-overflow", "READ of size 4", "0 bytes to the right of global variable 'table' defined in",
            "reads 4 bytes right past the end of the global variable table, kernel.cpp line 12",
        ),
        (
            "stack-buffer-overflow", "WRITE of size 4",
            "in stack of thread T0 at offset 96 in frame\n    #0 0x7f in rows kernel.cpp:8\n\n  This frame has 1:\n"
            "    [32, 96) 'sums' (line 9) <== Memory access at offset 96 overflows this variable",
            "writes 4 bytes beyond the local variable sums, kernel.cpp line 12",
        ),
    ],
)  # fmt: skip
def test_a_report_in_one_line(kind: str, access: str, place: str, words: str) -> None:
    found = read_report(REPORT.format(kind=kind, access=access, place=place), "kernel.cpp")
    assert found is not None and (found.kind, found.words) == (kind, words)


def test_another_file_is_named_where_the_source_is_not_among_the_frames() -> None:
    place = "4 bytes after 64-byte region [0x1,0x2)"
    found = read_report(REPORT.format(kind="k", access="READ of size 1", place=place), "another.cpp")
    assert found is not None and found.words.endswith(", vector.h line 40")


def test_an_address_where_nothing_is() -> None:
    text = "==1==ERROR: AddressSanitizer: SEGV on unknown address 0x000000000000 (pc 0x7f bp 0x7f sp 0x7f T0)\n"
    found = read_report(text, "kernel.cpp")
    assert found is not None and found.words == "SEGV: reads or writes where nothing is"


@pytest.mark.parametrize("text", ["", "noise", "ERROR: AddressSanitize"])
def test_what_is_no_report(text: str) -> None:
    assert read_report(text, "kernel.cpp") is None and sanitizer_trouble(text) is None


def test_a_forged_report_is_short_and_printable() -> None:
    found = read_report("ERROR: AddressSanitizer: \x1b[2J" + "x" * 100_000, "kernel.cpp")
    assert found is not None and len(found.words) <= 200 and found.words.isprintable()


def test_trouble_of_the_sanitizer_itself_is_told_from_a_report() -> None:
    text = 'AddressSanitizer: CHECK failed: asan_interceptors.cpp:320 "((real___cxa_throw)) != (0)" (0x0, 0x0)\n'
    assert read_report(text, "kernel.cpp") is None
    assert str(sanitizer_trouble(text)).startswith("CHECK failed: asan_interceptors.cpp:320")
