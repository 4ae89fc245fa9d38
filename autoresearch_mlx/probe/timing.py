"""Job `time`: several kernels of one target timed against each other in one process.

The order of the calls is that of autoresearch_trainer.probe.rounds. Every call gets fresh contents. The clock is bound
before any kernel is loaded. Raw times are returned; what they mean is decided elsewhere.
"""

import gc
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoresearch_mlx import arrays as files
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.stopwatch import Call, Stopwatch, output_probe, peak_bytes
from autoresearch_mlx.process import prepare_process
from autoresearch_mlx.seam import KernelFile, load_kernel
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.rounds import Race


def run(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Time the arms on the workloads; arguments and result as in the PyTorch engine's job of this name.

    Beside them "repeats": how many calls, each waiting for the one before, make one timed window.
    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    watch = Stopwatch()
    settings = prepare_process()
    rng = random.Random(args["seed"])
    rng.randrange(1 << 31)
    calls = _calls(args)
    arms = [load_kernel(KernelFile.of(kernel)) for kernel in args["arms"]]
    race = Race(watch, arms, calls, rng, Keeper(args["checked"], rng, output_probe(rng)))

    report({"stage": "warm-up"})
    first_ms = race.warm_up(args["calls"])
    gc.collect()
    gc.freeze()
    gc.disable()
    report({"stage": "measure"})
    began = watch.clock()
    while race.rounds < args["least_rounds"] or (
        race.rounds < args["most_rounds"] and watch.clock() - began < args["seconds"] * 1e9
    ):
        race.round()
        report({"stage": "round", "done": race.rounds, "seconds": (watch.clock() - began) / 1e9})
    span = (watch.clock() - began) / 1e9
    report({"stage": "measured"})
    gc.enable()
    files.save(race.keeper.tensors(race.repeat, reference=0), run_dir / "outputs.safetensors")
    return {
        "samples": race.samples,
        "clean": race.clean,
        "orders": race.orders,
        "foreign_load": race.foreign_load,
        "calls": race.counts,
        "disturbed": [asdict(counts) for counts in race.disturbed],
        "span_seconds": span,
        "timed_seconds": race.timed_ns / 1e9,
        "window_ns": watch.window_ns(),
        "first_call_ms": first_ms,
        "peak_bytes": _memory(race) if args["memory"] else None,
        "load_average": list(os.getloadavg()),
        "process": settings,
        "repeats": watch.repeats,
    }


def _calls(args: dict[str, Any]) -> list[Call]:
    contents = files.load(args["inputs"])
    found = []
    for workload in args["workloads"]:
        prefix = workload["id"] + "/"
        own = {name.removeprefix(prefix): value for name, value in contents.items() if name.startswith(prefix)}
        found.append(Call(workload, own))
    return found


def _memory(race: Race) -> list[list[int | None]]:
    """Peak bytes per arm and workload, outputs and gradients included."""
    arms, places = range(len(race.arms)), range(len(race.calls))
    return [[peak_bytes(lambda a=arm, p=place: race.repeat(a, p, 0)) for place in places] for arm in arms]
