"""What a GPU's bench measures beside its rounds: with a warm cache, and by the host's clock against the events.

In an *open* window host and device begin together, without a backlog: an honest call is over once the host has queued
it and the device has worked through it. One that takes longer works where the events do not look, on another stream.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

from autoresearch_cuda.probe.gpu_stopwatch import OPEN, WARM, GpuStopwatch
from autoresearch_cuda.probe.stopwatch import Call
from autoresearch_trainer.kernel_files import Kernel

PASSES = 7


def look(
    watch: GpuStopwatch, arms: Sequence[Kernel], calls: Sequence[Call], rng: random.Random, passes: int = PASSES
) -> dict[str, Any]:
    """Every arm at every workload `passes` times each way, in random order.

    Returns, as nested lists (arm, workload, [forward, backward]) of medians in ns: "warm" by events; "open_host" by the
    host's clock and "open_device" by events in open windows; "queue": until the call returned. And "waits" (arm,
    workload): whether the kernel makes the host wait for the device.
    """
    places = [(arm, place) for arm in range(len(arms)) for place in range(len(calls))]
    seen: dict[str, dict[tuple[int, int], list[tuple[int, int]]]] = {
        name: {place: [] for place in places} for name in ("warm", "open_host", "open_device", "queue")
    }
    for number in range(passes):
        for arm, place in rng.sample(places, len(places)):
            timing = watch.measure(arms[arm], calls[place], number, WARM)
            seen["warm"][arm, place].append((timing.forward_ns, timing.backward_ns))
            timing = watch.measure(arms[arm], calls[place], number, OPEN)
            seen["open_device"][arm, place].append((timing.forward_ns, timing.backward_ns))
            seen["open_host"][arm, place].append(_both(timing.host_ns))
            seen["queue"][arm, place].append(_both(timing.queue_ns))
    found: dict[str, Any] = {
        name: [[_median(values[arm, place]) for place in range(len(calls))] for arm in range(len(arms))]
        for name, values in seen.items()
    }
    found["waits"] = [[watch.waits(arm, call) for call in calls] for arm in arms]
    return found


def _both(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1] if len(values) > 1 else 0


def _median(pairs: Sequence[tuple[int, int]]) -> list[float]:
    return [float(statistics.median(column)) for column in zip(*pairs, strict=True)]
