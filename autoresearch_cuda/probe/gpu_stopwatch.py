"""The stopwatch of a GPU: CUDA events around a call that was queued behind a backlog.

Launching a kernel costs the host several microseconds, more than many kernels take. So before each window the stream
is held busy while the host queues mark, call and mark: the device then runs through them without a gap, and the marks
see the kernels' own time. Whether the backlog lasted is looked at every time (the first mark must not have been reached
once the last one is queued); where it did not, the call counts as disturbed and the next backlog is longer. A kernel
that waits for the device itself outlasts every backlog: its windows hold the host's time, too, which it costs indeed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from autoresearch_cuda.probe.stopwatch import Call, outputs_of
from autoresearch_cuda.probe.stream import CudaStream, Stream
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.rounds import Timing

FIRST_HOLD_NS, MOST_HOLD_NS, MOST_MISSES = 200_000.0, 6_400_000.0, 3
# What the device's clock and the host's may drift apart.
CLOCK_SHARE = 0.01
COLD, WARM, OPEN = "cold", "warm", "open"
FORWARD, BACKWARD = 0, 1


@dataclass
class Hold:
    """The backlog of one kernel at one workload and direction. given_up: no backlog lasts, since the kernel waits."""

    ns: float = FIRST_HOLD_NS
    given_up: bool = False
    misses: int = 0

    def learn(self, exposed: bool) -> None:
        """Longer where it did not last. Only the longest one failing time after time means that the kernel waits: the
        system may delay any process once."""
        if not exposed:
            self.misses = 0
        elif self.ns < MOST_HOLD_NS:
            self.ns = min(2 * self.ns, MOST_HOLD_NS)
        else:
            self.misses += 1
            if self.misses >= MOST_MISSES:
                self.given_up, self.ns = True, 0.0


@dataclass
class Window:
    """One window in ns. device: between the marks around the call; queue: until the call had returned; host: from an
    idle device to an idle device by the host's clock; seen: the same by marks, the backlog included."""

    device: float
    queue: float
    host: float
    seen: float
    exposed: bool


class GpuStopwatch:
    """Times calls by events. To be made before any kernel is loaded.

    cache: COLD = the device's cache is flushed before each window; WARM = arguments were just written; OPEN = cold,
    without a backlog, so that host and device begin together and the host's clock can be held against the events.
    """

    def __init__(
        self,
        device: torch.device,
        stream: Stream | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.clock = clock
        self.stream = stream or CudaStream(device)
        self.grad = torch.autograd.grad
        self._holds: dict[tuple[int, int, int], Hold] = {}
        # Sums over all windows that were timed: what the host saw, and what the marks saw of it.
        self.host_ns = self.seen_ns = 0.0
        self.most_excess_ns = 0.0

    def measure(self, function: Kernel, call: Call, number: int, cache: str = COLD) -> Timing:
        """Forward, and backward where the trainer needs it, of one call on content `number`."""
        call.refill(number)
        first, result = self.window((function, call, FORWARD), cache, lambda: function(*call.arguments))
        outputs = outputs_of(result)
        windows = [first]
        if call.gradient:
            differentiable, cotangents = call.seeds(outputs, number)
            second, gradients = self.window(
                (function, call, BACKWARD), cache, lambda: self.grad(differentiable, call.leaves, cotangents)
            )
            windows.append(second)
            outputs = [*outputs, *gradients]
        times = [round(window.device) for window in windows] + [0]
        return Timing(
            times[0],
            times[1],
            outputs,
            disturbed=cache != OPEN and any(window.exposed for window in windows),
            host_ns=tuple(round(window.host) for window in windows),
            queue_ns=tuple(round(window.queue) for window in windows),
        )

    def window(self, what: tuple[Any, Call, int], cache: str, action: Callable[[], Any]) -> tuple[Window, Any]:
        """`action` between two marks, and its result. what: the (kernel, call, direction) whose backlog this is."""
        clock, stream = self.clock, self.stream
        function, call, direction = what
        hold = self._holds.setdefault((id(function), id(call), direction), Hold())
        if cache != WARM:
            stream.flush()
        stream.wait()
        began = clock()
        first = stream.mark()
        if cache != OPEN and hold.ns:
            stream.hold(hold.ns)
        start = stream.mark()
        entered = clock()
        result = action()
        queue = clock() - entered
        end = stream.mark()
        late = stream.reached(start)
        stream.wait()
        host = clock() - began
        seen = stream.between(first, end)
        self.host_ns += host
        self.seen_ns += seen
        self.most_excess_ns = max(self.most_excess_ns, seen - host * (1 + CLOCK_SHARE))
        exposed = late and not hold.given_up
        if cache != OPEN:
            hold.learn(exposed)
        return Window(stream.between(start, end), queue, host, seen, exposed), result

    def window_ns(self) -> float:
        """What an empty window shows: the median of many."""
        empty = []
        for _ in range(101):
            self.stream.hold(FIRST_HOLD_NS)
            start = self.stream.mark()
            end = self.stream.mark()
            self.stream.wait()
            empty.append(self.stream.between(start, end))
        return float(statistics.median(empty))

    def waits(self, function: Kernel, call: Call) -> bool:
        """Whether the kernel makes the host wait for the device at this workload."""
        return any(
            hold.given_up
            for (kernel, place, _), hold in self._holds.items()
            if (kernel, place) == (id(function), id(call))
        )

    def settings(self) -> dict[str, Any]:
        """How the times were taken, for the record."""
        return {
            "clock": "CUDA events",
            "cache": COLD,
            "flush_bytes": self.stream.flush_bytes,
            "backlog_us": [hold / 1e3 for hold in self._range()],
        }

    def account(self) -> dict[str, float]:
        """The host's clock and the events over all windows: {"host_seconds", "seen_seconds", "most_excess_us": the most
        by which a window was longer by events than by the host's clock, less 1 %}."""
        return {
            "host_seconds": self.host_ns / 1e9,
            "seen_seconds": self.seen_ns / 1e9,
            "most_excess_us": self.most_excess_ns / 1e3,
        }

    def _range(self) -> tuple[float, float]:
        used = [hold.ns for hold in self._holds.values() if not hold.given_up] or [0.0]
        return min(used), max(used)
