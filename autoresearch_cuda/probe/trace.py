"""Job `trace`: training steps under a profiler, in the ranges that say which target's call was at work.

Set-up, compilation, tuning and the first steps are over before the profiler starts. Nsight Systems records from outside
and is told when to begin (cudaProfilerStart); PyTorch's profiler records from inside and writes its own file.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.plan import available_bytes
from autoresearch_cuda.probe import Report
from autoresearch_cuda.probe.ranges import Ranges, nvtx_ranges
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import open_dataset
from autoresearch_trainer.config import TrainConfig, preset
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.base import facts
from autoresearch_trainer.jobs.tracing import TraceAnswer, TraceArgs
from autoresearch_trainer.memory import fit_batch
from autoresearch_trainer.probe.load import ForeignLoad
from autoresearch_trainer.probe.steps import RUN_STEPS, STEP
from autoresearch_trainer.probe.words import trained
from autoresearch_trainer.process import QuietCollector


def run(args: TraceArgs, run_dir: Path, report: Report) -> TraceAnswer:
    """Train with the batch that fits, and trace.

    Raises ConfigError, KernelError or NoDataset for a request that cannot be served.
    """
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    base = TrainConfig.for_preset(args.preset, steps=RUN_STEPS, seed=args.seed, compile=args.compiled)
    config = fit_batch(base, preset(args.preset), device.type, available_bytes(device.type)).config
    dataset = open_dataset(Path(args.dataset_dir))
    environment = prepare_process()
    if args.tool == "torch" and args.output is None:
        raise ConfigError("trace: no output is named for PyTorch's profiler")
    recorder = NsightSystems(device) if args.output is None else TorchProfiler(device, Path(args.output))
    with QuietCollector() as collector:
        ops = Ops.load(args.selection, Ranges(recorder.push, recorder.pop))
        trainer = Trainer(config, ops, dataset, device)
        for number in range(args.warmup):
            report({"stage": "warm-up", "done": number, "total": args.warmup})
            trainer.step()
            collector.after_step(number)
        load = ForeignLoad()
        seconds = traced_steps(trainer, recorder, args.steps, args.seconds, report)
    return TraceAnswer(
        **trained(dataset, trainer.ops.kernels),
        steps=len(seconds),
        step_ms=[one * 1e3 for one in seconds],
        tokens_per_step=config.total_batch_tokens,
        batch_size=config.batch_size,
        compiled=config.compile,
        foreign_load=load.since_last(),
        environment=facts(environment),
    )


class NsightSystems:
    """Nsight Systems, started from outside with --capture-range=cudaProfilerApi. Raises ConfigError without NVTX."""

    def __init__(self, device: torch.device) -> None:
        functions = nvtx_ranges()
        if functions is None:
            raise ConfigError("the Python package 'nvtx' is not installed; install it with: pip install -e '.[cuda]'")
        self.push, self.pop = functions
        self._device = device

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.profiler.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.profiler.stop()


class TorchProfiler:
    """PyTorch's own profiler; writes `output` where no step failed."""

    def __init__(self, device: torch.device, output: Path) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profiler = profile(activities=activities)
        self._output = output
        self._open = _Open()

    def push(self, name: str) -> None:
        entered = record_function(name)
        entered.__enter__()
        self._open.ranges.append(entered)

    def pop(self) -> None:
        self._open.ranges.pop().__exit__(None, None, None)

    def __enter__(self) -> Self:
        self._profiler.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profiler.__exit__(*error)
        if error[0] is None:
            self._profiler.export_chrome_trace(str(self._output))


class _Open(threading.local):
    """The ranges that are open in this thread: autograd runs a GPU's nodes in one of its own."""

    def __init__(self) -> None:
        self.ranges: list[record_function] = []


def traced_steps(
    trainer: Trainer, recorder: NsightSystems | TorchProfiler, steps: int, seconds: float, report: Report
) -> list[float]:
    """Train under the recorder, each step and each of its phases in a range; wall time of every step in seconds.

    The trainer keeps the ranges: it is not to be used for anything else afterwards.
    """
    _mark_phases(trainer, recorder.push, recorder.pop)
    taken: list[float] = []
    with recorder:
        began = time.perf_counter()
        while len(taken) < steps and (not taken or time.perf_counter() - began < seconds):
            report({"stage": "tracing", "done": len(taken), "total": steps})
            recorder.push(STEP)
            taken.append(trainer.step().seconds)
            recorder.pop()
    return taken


def _mark_phases(trainer: Any, push: Callable[[str], Any], pop: Callable[[], Any]) -> None:
    """Open a range around every phase of a step. Backward has no function of its own in the trainer: it lasts from the
    end of forward to the next batch."""
    backward = False

    def phase(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            nonlocal backward
            if backward:
                pop()
                backward = False
            push(name)
            try:
                return function(*args, **kwargs)
            finally:
                pop()
                if name == "forward":
                    push("backward")
                    backward = True

        return marked

    trainer.forward = phase("forward", trainer.forward)
    trainer._next_batch = phase("data", trainer._next_batch)
    trainer.optimizer.step = phase("optimizer", trainer.optimizer.step)
