"""Job `time`: several kernels of one target timed against each other in one process.

The order of the calls is that of autoresearch_trainer.probe.rounds. Every call gets fresh contents. The clock is bound
before any kernel is loaded. Raw times are returned; what they mean is decided elsewhere.
"""

import random
from pathlib import Path
from typing import Any

from autoresearch_mlx import arrays as files
from autoresearch_mlx.kernel_files import KernelFile, load_kernel
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.stopwatch import Call, Stopwatch, output_probe, peak_bytes
from autoresearch_mlx.process import prepare_process
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.rounds import Race
from autoresearch_trainer.probe.timing import contents_of, measure, measured, peaks


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

    first_ms, span = measure(race, args, report)
    files.save(race.keeper.tensors(race.repeat, reference=0), run_dir / "outputs.safetensors")
    return {
        **measured(race, first_ms, span),
        "peak_bytes": peaks(race, peak_bytes) if args["memory"] else None,
        "process": settings,
        "repeats": watch.repeats,
    }


def _calls(args: dict[str, Any]) -> list[Call]:
    contents = files.load(args["inputs"])
    return [Call(workload, contents_of(workload, contents)) for workload in args["workloads"]]
