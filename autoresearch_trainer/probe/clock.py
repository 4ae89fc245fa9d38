"""Python's clocks, which can be moved on: a kernel that is wrong after a while must not have to be waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
NANO = 1_000_000_000


class MovableClock:
    """Stands in for the functions of `time` from `install` on. What took such a function before is not moved, so it is
    installed before a kernel is loaded. Native code has clocks of its own."""

    def __init__(self) -> None:
        self._ahead = 0

    def install(self) -> None:
        for name in NAMES:
            setattr(time, name, self._moved(getattr(time, name), 1))
            setattr(time, f"{name}_ns", self._moved(getattr(time, f"{name}_ns"), NANO))

    @contextmanager
    def ahead(self, seconds: int) -> Iterator[None]:
        """Within it all clocks show `seconds` more than they would."""
        self._ahead += seconds
        try:
            yield
        finally:
            self._ahead -= seconds

    def _moved(self, clock: Callable[[], float], unit: int) -> Callable[[], float]:
        def moved() -> float:
            return clock() + self._ahead * unit

        moved.__name__ = clock.__name__
        return moved
