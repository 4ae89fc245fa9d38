"""The part of job `time` that is the same in both engines: the course of a race, and what is returned of it."""

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from autoresearch_trainer.probe.rounds import Race


def measure(race: Race, args: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> tuple[list[Any], float]:
    """(ms of the first call per arm and workload, seconds of all rounds together); the race holds the samples.

    args: "calls", "least_rounds", "most_rounds" and "seconds" of the job. Python's collector sleeps meanwhile.
    """
    clock = race.watch.clock
    report({"stage": "warm-up"})
    first_ms = race.warm_up(args["calls"], lambda warmed: report({"stage": "warm-up", "done": warmed}))
    gc.collect()
    gc.freeze()
    gc.disable()
    report({"stage": "measure"})
    began = clock()
    while race.rounds < args["least_rounds"] or (
        race.rounds < args["most_rounds"] and clock() - began < args["seconds"] * 1e9
    ):
        race.round()
        report({"stage": "round", "done": race.rounds, "seconds": (clock() - began) / 1e9})
    span = (clock() - began) / 1e9
    report({"stage": "measured"})
    gc.enable()
    return first_ms, span


def measured(race: Race, first_ms: list[Any], span: float) -> dict[str, Any]:
    """What the job returns of the race itself; the PyTorch engine's job describes the keys."""
    return {
        "samples": race.samples,
        "clean": race.clean,
        "orders": race.orders,
        "foreign_load": race.foreign_load,
        "calls": race.counts,
        "disturbed": [asdict(counts) for counts in race.disturbed],
        "span_seconds": span,
        "timed_seconds": race.timed_ns / 1e9,
        "window_ns": race.watch.window_ns(),
        "first_call_ms": first_ms,
        "load_average": list(os.getloadavg()),
    }


def peaks(race: Race, peak_bytes: Callable[[Callable[[], Any]], int | None]) -> list[list[int | None]]:
    """Peak bytes per arm and workload, outputs and gradients included."""
    arms, places = range(len(race.arms)), range(len(race.calls))
    return [[peak_bytes(lambda a=arm, p=place: race.repeat(a, p, 0)) for place in places] for arm in arms]


def contents_of(workload: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """{argument: array} of one workload, from a file with "<workload id>/<argument>"."""
    prefix = workload["id"] + "/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
