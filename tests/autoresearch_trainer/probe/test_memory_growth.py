"""Memory that grows with each call."""

import ctypes

import pytest

from autoresearch_trainer.probe.memory import LEAST, PARTS, Growth, allocated, no_collection


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library does not tell")
def test_what_the_c_library_has_given_out_is_counted_to_the_byte() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def misses(size: int) -> tuple[int, int]:
        before = allocated()
        block = library.malloc(ctypes.c_size_t(size))
        taken = abs(allocated() - before - size)
        library.free(block)
        return taken, abs(allocated() - before)

    for size in (10_000, 1 << 22):  # the second is a block of its own
        # Other threads of a test process (those of its runner, of torch) allocate as well: one quiet count of many.
        assert any(max(misses(size)) < 9_000 for _ in range(100))


def growth(*readings: int) -> float:
    values = iter(readings)
    found = Growth(lambda: next(values), held=lambda: 0)
    for part in range(PARTS + 1):
        found.read(100 * part)
    return found.per_call()


def test_growth_counts_where_it_goes_on() -> None:
    assert growth(0, 90_000, 190_000, 290_000, 390_000) == 1000.0
    assert growth(0, 90_000, 90_000, 90_000, 90_000) == 0.0  # a cache that filled
    assert growth(0, 10, 50_000, 50_010, 50_020) == 0.0  # and later
    assert growth(0, 0, LEAST - 1, 2 * LEAST, 3 * LEAST) == 0.0
    assert growth(0, 50_000, 40_000, 30_000, 20_000) == 0.0


@pytest.mark.parametrize(("closed", "least"), [(True, 16), (True, 4096), (False, 16)])
def test_calls_that_leave_circles_of_garbage_grow(closed: bool, least: int) -> None:
    found = Growth(allocated, least)
    with no_collection():
        found.read(0)
        for part in range(1, PARTS + 1):
            for _ in range(2000):
                ring: list = [1, 2, 3]
                ring.append(ring if closed else None)
            found.read(2000 * part)
    assert (found.per_call() > 20) == (closed and least == 16)
