"""The part of job `time` that is the same in both engines: the course of the rounds, and what is returned of them."""

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.timing import DisturbedCounts, TimeArgs, TimedCall
from autoresearch_trainer.kernel_files import Kernel, load_kernel
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.probe.rounds import Rounds


def load_arm(args: TimeArgs, place: int, ops: type[Ops]) -> Kernel:
    """The function of an arm; of one that is `standing` as a run with `parts` selected would call it.

    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    file = args.arms[place]
    if place in args.standing:
        standing: Kernel = getattr(ops.load({**args.parts, file.target: file}), file.target)
        return standing
    return load_kernel(file)


def measure(rounds: Rounds, args: TimeArgs, report: Report) -> dict[str, Any]:
    """Warm up and measure; returns those fields of a `TimeAnswer` that come from the rounds themselves.

    Python's collector sleeps meanwhile.
    """
    clock = rounds.watch.clock
    report({"stage": "warm-up"})
    first_ms = rounds.warm_up(args.calls, lambda warmed: report({"stage": "warm-up", "done": warmed}))
    gc.collect()
    gc.freeze()
    gc.disable()
    report({"stage": "measure"})
    began = clock()
    while rounds.done < args.least_rounds or (rounds.done < args.most_rounds and clock() - began < args.seconds * 1e9):
        rounds.round()
        report({"stage": "round", "done": rounds.done, "seconds": (clock() - began) / 1e9})
    span = (clock() - began) / 1e9
    report({"stage": "measured"})
    gc.enable()
    return {
        "samples": rounds.samples,
        "clean": rounds.clean,
        "orders": rounds.orders,
        "foreign_load": rounds.foreign_load,
        "calls": rounds.counts,
        "disturbed": [DisturbedCounts(**asdict(counts)) for counts in rounds.disturbed],
        "span_seconds": span,
        "timed_seconds": rounds.timed_ns / 1e9,
        "window_ns": rounds.watch.window_ns(),
        "first_call_ms": first_ms,
        "load_average": list(os.getloadavg()),
    }


def peaks(rounds: Rounds, peak_bytes: Callable[[Callable[[], Any]], int | None]) -> list[list[int | None]]:
    """Peak bytes per arm and workload, outputs and gradients included."""
    arms, places = range(len(rounds.arms)), range(len(rounds.calls))
    return [[peak_bytes(partial(rounds.repeat, arm, place, 0)) for place in places] for arm in arms]


def contents_of(workload: TimedCall, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """{argument: array} of one workload, from a file with "<workload id>/<argument>"."""
    prefix = workload["id"] + "/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
