"""A GPU that only keeps time: one clock for the host, one for the device, and kernels that take planted times."""

from dataclasses import dataclass, field


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

    def clock(self) -> int:
        return int(self.now)

    def kernel(self, ns: float) -> None:
        """Launch a kernel that takes that long."""
        self.now += self.launch
        idle = self.free <= self.now
        self.free = (self.now + self.gap if idle else self.free) + ns

    def on_another_stream(self, ns: float) -> None:
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
        self.now = max(self.now, self.free, self.others) + self.wake

    def hold(self, ns: float) -> None:
        self.held.append(ns)
        self.kernel(ns)

    def flush(self) -> None:
        self.flushes += 1
        self.flushed = True
        self.kernel(30_000)
