"""The clocks that a training step's parts are measured with: the host's, and a CUDA stream's."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

Mark = Any  # what a clock's `mark` gives
# Turns of a GPU's idle loop that the host gets as a lead before each phase: 30 ms at 2 GHz, several times what looking
# at a phase's calls costs it.
LEAD_TURNS = 60_000_000


class Clock(Protocol):
    """When something began and ended: a `mark` now, `seconds` between two of them. `pause`: what runs inside is not
    counted; `lead`: two marks around what the device still had to do before it came to the present, where it lags;
    `wait` until all marks can be read."""

    def mark(self) -> Mark: ...

    def pause(self) -> AbstractContextManager[None]: ...

    def lead(self) -> tuple[Mark, Mark] | None: ...

    def wait(self) -> None: ...

    def seconds(self, start: Mark, end: Mark) -> float: ...


class HostClock:
    """Wall time of this process, for work that runs when it is called (the CPU). It stands still while paused, so that
    the cost of looking is not part of what is seen."""

    def __init__(self) -> None:
        self._paused = 0.0

    def mark(self) -> float:
        return time.perf_counter() - self._paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    def lead(self) -> tuple[float, float] | None:
        return None

    def wait(self) -> None:
        pass

    def seconds(self, start: float, end: float) -> float:
        return end - start


class StreamClock:
    """Time on the current CUDA stream, by events recorded between the launches. The host's own work in between costs
    nothing unless the stream runs dry; so that it does not, `lead` keeps the stream waiting first."""

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def pause(self) -> Iterator[None]:
        yield

    def lead(self) -> tuple[torch.cuda.Event, torch.cuda.Event] | None:
        """Let the stream idle while the host queues what comes next; from when to when, which is no part of a step."""
        start = self.mark()
        torch.cuda._sleep(LEAD_TURNS)
        return start, self.mark()

    def wait(self) -> None:
        """Until every mark has a time."""
        torch.cuda.synchronize()

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end) / 1e3
