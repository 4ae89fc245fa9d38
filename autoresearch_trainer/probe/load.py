"""Work that other processes do on this machine meanwhile."""

import resource
import time
from collections.abc import Sequence

import psutil

from autoresearch_trainer import control_group

# The counters move in steps of 10 ms; over less than this many core-seconds they say nothing.
LEAST_SECONDS = 0.2
# guest time is part of user time on Linux; steal is time that this machine did not get at all.
_NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")


class ForeignLoad:
    """Which share of the cores other processes used, between one question and the next. cores: those that this process
    may use, None = all of the machine. children: what this process's children used until they ended is its own."""

    def __init__(self, cores: Sequence[int] | None = None, *, children: bool = False) -> None:
        self._cores, self._children = cores, children
        self._last = self._read()

    def _read(self) -> tuple[float, float, float]:
        """(busy seconds of the cores, seconds of this process, seconds of all the cores). Time that the control group's
        quota kept from this process is as good as another's."""
        times = psutil.cpu_times(percpu=True)
        chosen = [times[core] for core in self._cores if core < len(times)] if self._cores else times
        busy = sum(value for core in chosen for name, value in core._asdict().items() if name not in _NOT_BUSY)
        busy += control_group.throttled_seconds()
        own = time.process_time()
        if self._children:
            own += sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        return busy, own, time.perf_counter() * len(chosen)

    def share(self) -> float:
        """Since the last question: 0 = nobody else, 1 = all cores busy with others' work."""
        now = self._read()
        busy, own, total = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        return min(1.0, max(0.0, (busy - own) / total))

    def since_last(self) -> float | None:
        """The same; None, and the question counts as not asked, if too little time passed to tell."""
        return self.share() if self._read()[2] - self._last[2] >= LEAST_SECONDS else None


def involuntary_switches() -> int:
    """How often the system has put threads of this process aside so far, although they had work to do."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
