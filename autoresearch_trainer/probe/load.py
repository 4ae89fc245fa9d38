"""Work that other processes do on this machine meanwhile."""

import resource

import psutil


class ForeignLoad:
    """Which share of the machine's cores other processes used, between one question and the next."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._last = self._read()

    def _read(self) -> tuple[float, float, float]:
        """(busy seconds of all cores, seconds of all cores, seconds of this process)."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # guest time is part of user time on Linux; steal is time that this machine did not get at all.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        own = self._own.cpu_times()
        return total - idle, total, own.user + own.system

    def since_last(self) -> float | None:
        """0 = nobody else, 1 = all cores busy with others' work; None if too little time passed to tell."""
        now = self._read()
        busy, total, own = (new - old for new, old in zip(now, self._last, strict=True))
        if total < 0.2:  # the counters move in steps of 10 ms
            return None
        self._last = now
        return min(1.0, max(0.0, (busy - own) / total))


def involuntary_switches() -> int:
    """How often the system has put threads of this process aside so far, although they had work to do."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
