"""How malloc behaves is found by trying, and does not change by allocating."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_trainer.probe import allocator

ROOT = Path(__file__).parents[3]
PROGRAM = """
import ctypes, sys
import numpy as np
from autoresearch_trainer.probe.allocator import behaviour
from autoresearch_trainer.process import keep_freed_memory

number, value, kept = map(int, sys.argv[1:])
if kept:
    keep_freed_memory()

def work():
    kept = [np.ones(size) for size in (10, 1000, 200_000, 5_000_000)]
    return [np.ones(1 << power) for power in range(4, 22)][::3] + kept[:1]

first = behaviour()
held = []
for _ in range(5):
    held += work()
    assert behaviour() == first, behaviour()
del held
assert behaviour() == first, behaviour()
if number:
    assert ctypes.CDLL(None).mallopt(number, value)
print(behaviour() != first, bool(first))
"""
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4


def _changed(number: int, value: int = 0, *, kept: bool = False) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, str(number), str(value), str(int(kept))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("kept", [False, True])
def test_allocating_and_freeing_is_no_change(kept: bool) -> None:
    assert _changed(0, kept=kept)[0] == "False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize(
    ("number", "value"),
    [
        (TRIM_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 1 << 17), (MMAP_THRESHOLD, 1 << 17), (MMAP_THRESHOLD, 1 << 20),
        (MMAP_MAX, 0),
    ],
)  # fmt: skip
def test_every_option_that_matters_shows(number: int, value: int) -> None:
    changed, glibc = _changed(number, value)
    if glibc == "False":
        pytest.skip("another C library")
    assert changed == "True"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize(
    ("number", "value"), [(TRIM_THRESHOLD, 1 << 30), (TRIM_THRESHOLD, 1 << 17), (MMAP_MAX, 1 << 16)]
)
def test_and_so_it_does_where_freed_memory_is_kept(number: int, value: int) -> None:
    changed, glibc = _changed(number, value, kept=True)
    if glibc == "False":
        pytest.skip("another C library")
    assert changed == "True"


def test_what_seems_kept_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may have taken memory above the blocks that were tried."""
    seen = iter(["kept", "given back after 3"])
    monkeypatch.setattr(allocator, "_large", lambda libc: next(seen))
    if allocator.behaviour():  # not with another C library
        assert next(seen, None) is None
    monkeypatch.setattr(allocator, "_large", lambda libc: "kept")
    assert allocator.behaviour().get("malloc: blocks of 31 MiB", "kept") == "kept"
