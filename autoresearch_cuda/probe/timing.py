"""Job `time`: several kernels of one target timed against each other in one process.

The order of the calls is that of autoresearch_trainer.probe.rounds. Every call gets fresh contents at the same
addresses. The clock is bound before any kernel is loaded. Raw times are returned; what they mean is decided elsewhere.
"""

import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from autoresearch_cuda.kernel_files import KernelFile, load_kernel
from autoresearch_cuda.probe import Report, extra_timings, triton_code
from autoresearch_cuda.probe.gpu_stopwatch import GpuStopwatch
from autoresearch_cuda.probe.observers import output_probe, peak_bytes
from autoresearch_cuda.probe.replay import replay_short
from autoresearch_cuda.probe.stopwatch import Call, Stopwatch
from autoresearch_cuda.process import prepare_process
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.rounds import Race
from autoresearch_trainer.probe.timing import contents_of, measure, measured, peaks

# torch.compile makes a version per shape and arm, and beyond its limit runs uncompiled without a word.
MOST_COMPILES = 256


def run(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Time the arms on the workloads.

    args: "arms": [kernel, ...], the first being the reference, with "compiled": true for one that goes through
    torch.compile; "inputs": path of a safetensors file with
    "<workload id>/<argument>"; "workloads": see `Call`; "seconds" to measure for; "least_rounds"; "most_rounds";
    "seed"; "calls": per workload how many make a sample at least, null = found out here alone; "checked": outputs kept
    per arm and workload; "memory": whether to measure peak memory; "device".

    Returns "samples" (round, visit, arm, workload, [forward, backward]): nested lists of ns per call, each the mean
    over "calls" (per workload) calls; "clean" (round, visit, arm, workload): whether these were calls that nothing
    interrupted; "disturbed": per arm how often the system interfered (see `Disturbed`); "orders":
    per round [[workload, [arm, ...]], ...] as visited; "span_seconds" of all rounds together, "timed_seconds" inside
    windows; "foreign_load" per round; "first_call_ms" and "peak_bytes" per arm and workload; "configurations" of tuned
    Triton kernels; "timer": how the times were taken; on a GPU also "gpu": what `extra_timings.look`,
    `GpuStopwatch.account` and `replay_short` give. Kept outputs lie in run_dir/outputs.safetensors under the names of
    `Keeper.tensors`.

    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    device = torch.device(args.get("device", "cpu"))
    watch = GpuStopwatch(device) if device.type == "cuda" else Stopwatch()
    settings = prepare_process()
    rng = random.Random(args["seed"])
    torch.manual_seed(rng.randrange(1 << 31))
    calls = _calls(args, device)
    arms = [load_arm(kernel) for kernel in args["arms"]]
    race = Race(watch, arms, calls, rng, Keeper(args["checked"], rng, output_probe(rng)))

    first_ms, span = measure(race, args, report)
    gpu = None
    if isinstance(watch, GpuStopwatch):
        gpu = {**extra_timings.look(watch, arms, calls, rng), **watch.account()}
    save_file(race.keeper.tensors(race.repeat, reference=0), str(run_dir / "outputs.safetensors"))
    result = {
        **measured(race, first_ms, span),
        "timer": watch.settings(),
        "gpu": gpu,
        "peak_bytes": peaks(race, lambda call: peak_bytes(call, device)) if args["memory"] else None,
        "process": settings,
        "configurations": triton_code.configurations(),
    }
    if isinstance(watch, GpuStopwatch):
        # Last of all: a kernel that cannot be recorded may leave CUDA in a state in which nothing else works.
        result["gpu"] |= replay_short(watch, arms, calls, race.samples, rng)
    return result


def load_arm(kernel: dict[str, Any]) -> Kernel:
    """The arm's function; through torch.compile, one graph per shape, where it asks for that."""
    function = load_kernel(KernelFile.of(kernel))
    if not kernel.get("compiled"):
        return function
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_COMPILES
    torch._inductor.config.compile_threads = 1  # workers would still be there while others are timed
    return torch.compile(function, dynamic=False)


def _calls(args: dict[str, Any], device: torch.device) -> list[Call]:
    contents = load_file(args["inputs"])
    return [Call(workload, contents_of(workload, contents), device) for workload in args["workloads"]]
