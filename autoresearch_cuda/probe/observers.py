"""What is watched beside the clock: outputs of timed calls, load by other processes, and peak memory."""

import random
from collections.abc import Callable

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from autoresearch_cuda.probe.tensors import probe

POSITIONS = 512


class Keeper:
    """Keeps elements of the outputs of a random subset of timed calls, `count` per (arm, workload).

    Reservoir sampling, so every timed visit has the same chance however many there will be. A kernel cannot know which
    call is kept before it has returned.
    """

    def __init__(self, count: int, rng: random.Random) -> None:
        self._count = count
        self._rng = rng
        self._seen: dict[tuple[int, int], int] = {}
        self._kept: dict[tuple[int, int, int], tuple[int, list[torch.Tensor]]] = {}
        generator = torch.Generator().manual_seed(rng.randrange(1 << 31))
        self._positions = torch.randint(1 << 40, (POSITIONS,), generator=generator)

    def slot(self, arm: int, workload: int) -> int | None:
        """The place that the next visit of (arm, workload) is to be kept in; None = not kept."""
        seen = self._seen[arm, workload] = self._seen.get((arm, workload), 0) + 1
        place = self._rng.randrange(seen) if seen > self._count else seen - 1
        return place if place < self._count else None

    def keep(self, slot: int, arm: int, workload: int, content: int, outputs: list[torch.Tensor]) -> None:
        self._kept[arm, workload, slot] = (content, self.sample(outputs))

    def sample(self, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return [probe(output, self._positions) for output in outputs]

    def tensors(self, repeat: Callable[[int, int, int], list[torch.Tensor]], reference: int) -> dict[str, torch.Tensor]:
        """Everything that was kept, with what the same arm and arm `reference` give now for the same contents.

        repeat(arm, workload, content) calls a kernel once more, untimed, and returns its outputs. Names are
        "<timed|again|reference>/<arm>/<workload>/<slot>/<number of the output>".
        """
        found: dict[str, torch.Tensor] = {}
        for (arm, workload, slot), (content, values) in sorted(self._kept.items()):
            again = self.sample(repeat(arm, workload, content))
            trusted = self.sample(repeat(reference, workload, content))
            for kind, group in (("timed", values), ("again", again), ("reference", trusted)):
                for number, value in enumerate(group):
                    found[f"{kind}/{arm}/{workload}/{slot}/{number}"] = value
        return found


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


def peak_bytes(action: Callable[[], object], device: torch.device) -> int | None:
    """Most memory that PyTorch's allocator held at once during `action`, beyond what it held before; None if unknown.

    On the CPU from the profiler's record of every allocation; scratch that native code takes by itself is not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    results = getattr(getattr(profiler, "profiler", None), "kineto_results", None)
    if results is None:
        return None
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
