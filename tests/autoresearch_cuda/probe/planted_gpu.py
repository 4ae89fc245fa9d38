"""A GPU that only keeps time: one clock for the host, one for the device, and kernels that take planted times."""

from dataclasses import dataclass, field

import torch

from autoresearch_cuda.probe.stopwatch import outputs_of


@dataclass
class PlantedGpu:
    """Stands in for `stream.Stream`. Times in ns. launch: what queueing one kernel costs the host; gap: what the device
    needs to begin with something on an empty stream; wake: what the host needs to notice that the device is idle."""

    launch: float = 3_000
    gap: float = 2_000
    wake: float = 8_000
    now: float = 0.0
    free: float = 0.0
    others: float = 0.0
    flush_bytes: int = 1 << 20
    flushed: bool = False
    flushes: int = 0
    held: list[float] = field(default_factory=list)
    recorded: list[float] | None = None

    def clock(self) -> int:
        return int(self.now)

    def kernel(self, ns: float) -> None:
        """Launch a kernel that takes that long, or record it."""
        if self.recorded is not None:
            self.recorded.append(ns)
            return
        self.now += self.launch
        idle = self.free <= self.now
        self.free = (self.now + self.gap if idle else self.free) + ns

    def on_another_stream(self, ns: float) -> None:
        self._not_recorded()
        self.now += self.launch
        self.others = max(self.others, self.now + ns)

    def mark(self) -> float:
        self.now += 1_000
        self.free = max(self.free, self.now)
        return self.free

    def reached(self, mark: float) -> bool:
        return mark <= self.now

    def between(self, start: float, end: float) -> float:
        return end - start

    def wait(self) -> None:
        self._not_recorded()
        self.now = max(self.now, self.free, self.others) + self.wake

    def hold(self, ns: float) -> None:
        self.held.append(ns)
        self.kernel(ns)

    def flush(self) -> None:
        self.flushes += 1
        self.flushed = True
        self.kernel(30_000)

    def aside(self, action) -> None:
        action()

    def recorder(self):
        def record(action):
            times, result = self._record(action)

            def replay() -> None:
                self._compute(action, result)
                self.kernel(sum(times))

            return replay, result

        return record

    def _record(self, action):
        """(times of the kernels that `action` launches, what it returns)."""
        self.recorded = times = []
        try:
            return times, action()
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        finally:
            self.recorded = None

    def _compute(self, action, result) -> None:
        """What the kernels of a graph would write; a backward, that runs but once, leaves what it has."""
        try:
            _, fresh = self._record(action)
        except RuntimeError:
            return
        for kept, new in zip(outputs_of(result), outputs_of(fresh), strict=True):
            kept.detach().copy_(new.detach())

    def _not_recorded(self) -> None:
        if self.recorded is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of CUDA's words")


def both_ways(gpu: PlantedGpu, forward_ns: float, backward_ns: float):
    """A kernel function that launches a kernel of these times in forward and in backward."""

    class Timed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            gpu.kernel(forward_ns)
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            gpu.kernel(backward_ns)
            return gradient * 2

    return lambda x: Timed.apply(x)
