"""Short calls replayed as CUDA graphs: a second way to keep what launching costs out of a kernel's time.

A graph is recorded once per direction and launched as one, with new contents at the same addresses each time. Not every
kernel can be recorded (one that makes the host wait cannot), and what its Python code does is frozen in it; so these
times stand beside those behind a backlog, which the verdict is on, and the two can be held against each other.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoresearch_cuda.probe.gpu_stopwatch import BACKWARD, COLD, FORWARD, GpuStopwatch
from autoresearch_cuda.probe.stopwatch import Call, outputs_of
from autoresearch_trainer.kernel_files import Kernel

# Calls are short where an arm's forward or backward takes less than this.
SHORT_NS = 100_000
WARM_UPS, PASSES = 3, 9
# How far a replay's outputs may lie from the kernel's own, in norms: sums of atomics come out differently each time.
SAME = 0.01


@dataclass
class Recorded:
    """One kernel's graphs at one workload, forward and, where it is differentiated, backward; `outputs` are the tensors
    that a launch writes to: those of the call, then the gradients."""

    graphs: list[Callable[[], None]]
    outputs: list[torch.Tensor]


def replay_short(
    watch: GpuStopwatch, arms: Sequence[Kernel], calls: Sequence[Call], samples: Sequence[Any], rng: random.Random
) -> dict[str, Any]:
    """Every arm's graphs at the workloads with short calls, PASSES times in random order, caches flushed.

    samples: those of the race, (round, visit, arm, workload, [forward, backward]) in ns. Returns, as nested lists (arm,
    workload): "replayed": medians [forward, backward] in ns, None where there are none; "not_replayed": why a short
    call has none.
    """
    times: list[list[Any]] = [[None] * len(calls) for _ in arms]
    reasons: list[list[str | None]] = [[None] * len(calls) for _ in arms]
    for place, call in enumerate(calls):
        if _shortest(samples, place) >= SHORT_NS:
            continue
        recorded = {}
        for number, arm in enumerate(arms):
            # Whatever a kernel does when it is recorded, the bench is over: it costs these times and nothing else.
            try:
                recorded[number] = record(watch, arm, call)
            except Exception as error:
                reasons[number][place] = _first_line(error)
        seen: dict[int, list[list[float]]] = {number: [] for number in recorded}
        for content in range(PASSES):
            for number in rng.sample(list(recorded), len(recorded)):
                seen[number].append(launch(watch, recorded[number], call, content))
        for number, graphs in recorded.items():
            if follows(watch, arms[number], graphs, call):
                times[number][place] = [statistics.median(column) for column in zip(*seen[number], strict=True)]
            else:
                reasons[number][place] = "its graph gives something else than the call does"
    return {"replayed": times, "not_replayed": reasons}


def record(watch: GpuStopwatch, function: Kernel, call: Call) -> Recorded:
    """Record a call. Raises whatever the kernel or CUDA raises where it cannot be recorded."""
    call.refill(0)
    for _ in range(WARM_UPS):
        watch.stream.aside(lambda: _both(watch, function, call, lambda action: (action, action())))
    watch.stream.wait()
    call.refill(0)
    return _both(watch, function, call, watch.stream.recorder())


def _both(watch: GpuStopwatch, function: Kernel, call: Call, recorder: Callable[..., Any]) -> Recorded:
    forward, result = recorder(lambda: function(*call.arguments))
    outputs = outputs_of(result)
    if not call.gradient:
        return Recorded([forward], outputs)
    differentiable, cotangents = call.seeds(outputs, 0)
    backward, gradients = recorder(lambda: watch.grad(differentiable, call.leaves, cotangents))
    return Recorded([forward, backward], [*outputs, *gradients])


def launch(watch: GpuStopwatch, recorded: Recorded, call: Call, content: int) -> list[float]:
    """[forward, backward] in ns of one launch on that content; backward is 0 where there is none."""
    call.refill(content)
    times = [
        watch.window((recorded, call, direction), COLD, graph)[0].device
        for direction, graph in zip((FORWARD, BACKWARD), recorded.graphs, strict=False)
    ]
    return (times + [0.0])[:2]


def follows(watch: GpuStopwatch, function: Kernel, recorded: Recorded, call: Call) -> bool:
    """Whether the graphs, launched on new contents, compute what the kernel does."""
    for content in (1, 0):  # what was left from the recording would show after another content
        launch(watch, recorded, call, content)
    found = [output.detach().clone() for output in recorded.outputs]
    wanted = watch.measure(function, call, 0).outputs
    return len(found) == len(wanted) and all(_close(one, other) for one, other in zip(found, wanted, strict=True))


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    found, wanted = found.float(), wanted.detach().float()
    distance = torch.linalg.vector_norm(found - wanted)
    return bool(distance <= SAME * torch.linalg.vector_norm(wanted))


def _shortest(samples: Sequence[Any], place: int) -> float:
    """The least median of an arm's forward or backward at a workload, in ns."""
    medians = []
    for arm in range(len(samples[0][0])):
        pairs = [visit[arm][place] for visits in samples for visit in visits]
        medians += [statistics.median(column) for column in zip(*pairs, strict=True)]
    return min((median for median in medians if median), default=0.0)


def _first_line(error: BaseException) -> str:
    """Of what went wrong first: ending a recording that failed raises once more, and says less."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
