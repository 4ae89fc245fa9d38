"""Job `time`: several kernels of one target timed against each other in one process.

The order of the calls is that of autoresearch_trainer.probe.rounds. Every call gets fresh contents at the same
addresses. The clock is bound before any kernel is loaded. Raw times are returned; what they mean is decided elsewhere.
"""

import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from autoresearch_cuda import compile_cache
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe import Report, extra_timings
from autoresearch_cuda.probe.compiled_call import CompiledCall
from autoresearch_cuda.probe.gpu_stopwatch import GpuStopwatch
from autoresearch_cuda.probe.observers import configurations, output_probe, peak_bytes
from autoresearch_cuda.probe.replay import replay_short
from autoresearch_cuda.probe.stopwatch import Call, Stopwatch
from autoresearch_cuda.process import prepare_process
from autoresearch_trainer.jobs.base import facts
from autoresearch_trainer.jobs.timing import GRAPHS, OUTPUTS, GpuTimes, TimeAnswer, TimeArgs
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.rounds import Rounds, Watch
from autoresearch_trainer.probe.timing import contents_of, load_arm, measure, peaks


def run(args: TimeArgs, run_dir: Path, report: Report) -> TimeAnswer:
    """Time the arms on the workloads. Kept outputs lie in run_dir/outputs.safetensors under the names of
    `Keeper.tensors`.

    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    device = torch.device(args.device)
    watch = GpuStopwatch(device) if device.type == "cuda" else Stopwatch()
    settings = prepare_process()
    rng = random.Random(args.seed)
    torch.manual_seed(rng.randrange(1 << 31))
    calls = _calls(args, device)
    arms, compile_ms = _load(args, calls, watch, run_dir / GRAPHS, report)
    rounds = Rounds(watch, arms, calls, rng, Keeper(args.checked, rng, output_probe(rng)))

    measured = measure(rounds, args, report)
    for place, took in compile_ms.items():
        measured["first_call_ms"][place] = took
    beside = {}
    if isinstance(watch, GpuStopwatch):
        beside = {**extra_timings.look(watch, arms, calls, rng), **watch.account()}
    save_file(rounds.keeper.tensors(rounds.repeat, reference=0), str(run_dir / OUTPUTS))
    peak = peaks(rounds, lambda call: peak_bytes(call, device)) if args.memory else None
    tuned = configurations()
    gpu = None
    if isinstance(watch, GpuStopwatch):
        # Last of all: a kernel that cannot be recorded may leave CUDA in a state in which nothing else works.
        gpu = GpuTimes(**beside, **replay_short(watch, arms, calls, rounds.samples, rng))
    return TimeAnswer(
        **measured,
        timer=watch.settings(),
        gpu=gpu,
        peak_bytes=peak,
        process=facts(settings),
        configurations=tuned,
        graph_breaks=[arm.graph_break if isinstance(arm, CompiledCall) else None for arm in arms],
    )


def _load(
    args: TimeArgs, calls: list[Call], watch: Watch, folder: Path, report: Report
) -> tuple[list[Kernel], dict[int, list[float]]]:
    """The arms, and how long the first calls of those that are compiled took, in ms per workload.

    Each is compiled before the next is loaded: when a candidate's code runs for the first time, nothing in the folder
    is needed any more by what stands before it.
    """
    arms, took = list[Kernel](), dict[int, list[float]]()
    for place in range(len(args.arms)):
        arm = load_arm(args, place, Ops)
        if place in args.compiled:
            report({"stage": "compile"})
            compile_cache.stay_in(folder)
            arm = CompiledCall(arm)
            took[place] = [round(watch.measure(arm, call, 0).ns / 1e6, 4) for call in calls]
        arms.append(arm)
    return arms, took


def _calls(args: TimeArgs, device: torch.device) -> list[Call]:
    contents = load_file(args.inputs)
    return [Call(workload, contents_of(workload, contents), device) for workload in args.workloads]
