"""What timing on a GPU needs of CUDA: marks on the stream, a wait for everything, a backlog, a cache flush, and graphs.

Bound when it is made, before any kernel is loaded, so that a kernel that replaces torch.cuda's functions changes
nothing here. Tests put a planted one in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

# Records what an action launches instead of running it: (launches all of it at once, what the action returned).
Recorder = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]

# The flush reads this many times the cache's size, and at least so much.
FLUSH_FACTOR, LEAST_FLUSH_BYTES = 2, 64 << 20
# Turns of the idle loop that calibrate it: a few ms. The loop counts clock ticks, and an idle GPU ticks several times
# slower than a busy one: so it is kept busy first, and the fastest of some trials counts.
TRIAL_TURNS, BUSY_TRIALS, TRIALS = 4_000_000, 30, 5


class Stream(Protocol):
    """The stream that kernels are launched on. Times in ns."""

    flush_bytes: int

    def mark(self) -> Any:
        """Put a mark behind everything launched so far."""

    def reached(self, mark: Any) -> bool:
        """Whether the device has come to the mark."""

    def between(self, start: Any, end: Any) -> float:
        """Device time from one mark to the other; both must have been reached."""

    def wait(self) -> None:
        """Until the device is idle, all of its streams included."""

    def hold(self, ns: float) -> None:
        """Keep the stream busy for about that long without using memory, and return at once."""

    def flush(self) -> None:
        """Leave nothing of what a kernel reads in the device's cache."""

    def aside(self, action: Callable[[], Any]) -> None:
        """Run `action` on another stream: what is to be recorded has to have run there before."""

    def recorder(self) -> Recorder:
        """Makes graphs that share one pool of memory, to be launched in the order in which they were recorded."""


class CudaStream:
    """The real one: CUDA events on the current stream."""

    def __init__(self, device: torch.device) -> None:
        self._event, self.wait, self._spin = torch.cuda.Event, torch.cuda.synchronize, torch.cuda._sleep
        self._record, self._query, self._elapsed = self._event.record, self._event.query, self._event.elapsed_time
        self._graph, self._capture, self._pool = torch.cuda.CUDAGraph, torch.cuda.graph, torch.cuda.graph_pool_handle
        self._on, self._current, self._side = torch.cuda.stream, torch.cuda.current_stream, torch.cuda.Stream(device)
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self.flush_bytes = max(LEAST_FLUSH_BYTES, FLUSH_FACTOR * cache)
        # Read rather than written: lines that were written have to go back to memory, and would do so in the window.
        self._waste = torch.zeros(self.flush_bytes // 4, dtype=torch.float32, device=device)
        self._sum = torch.zeros((), dtype=torch.float32, device=device)
        self._total = torch.sum
        for _ in range(BUSY_TRIALS):
            self._spin(TRIAL_TURNS)
        self.wait()
        self._turns_per_ns = TRIAL_TURNS / min(self._trial() for _ in range(TRIALS))

    def _trial(self) -> float:
        """How long TRIAL_TURNS of the idle loop take, in ns."""
        start = self.mark()
        self._spin(TRIAL_TURNS)
        end = self.mark()
        self.wait()
        return self.between(start, end)

    def mark(self) -> torch.cuda.Event:
        event = self._event(enable_timing=True)
        self._record(event)
        return event

    def reached(self, mark: torch.cuda.Event) -> bool:
        return self._query(mark)

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return self._elapsed(start, end) * 1e6  # it gives ms

    def hold(self, ns: float) -> None:
        self._spin(max(1, int(ns * self._turns_per_ns)))

    def flush(self) -> None:
        self._total(self._waste, dim=0, out=self._sum)

    def aside(self, action: Callable[[], Any]) -> None:
        current = self._current()
        self._side.wait_stream(current)
        with self._on(self._side):
            action()
        current.wait_stream(self._side)

    def recorder(self) -> Recorder:
        pool = self._pool()

        def record(action: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
            graph = self._graph()
            with self._capture(graph, pool=pool):
                result = action()
            return graph.replay, result

        return record
