"""Job `one_call`: one kernel on one captured call, for Nsight Compute or perf, with which this process was started.

Forward, and backward where the trainer needs it. Tuning and warming up come first. On a GPU there is one call between
cudaProfilerStart and -Stop; on a CPU, where a tool samples, the call is repeated.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from autoresearch_cuda import native
from autoresearch_cuda.probe import Report
from autoresearch_cuda.probe.stopwatch import Call, outputs_of
from autoresearch_cuda.process import prepare_process
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.timing import OneCallAnswer, OneCallArgs
from autoresearch_trainer.kernel_files import load_kernel
from autoresearch_trainer.probe.timing import contents_of

WARMUP_CALLS = 3


def run(args: OneCallArgs, run_dir: Path, report: Report) -> OneCallAnswer:
    """Raises KernelError for a kernel that does not load, ConfigError without a CUDA device."""
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    prepare_process()
    call = Call(args.workload, contents_of(args.workload, load_file(args.inputs)), device)
    function = load_kernel(args.kernel)

    def once(number: int) -> None:
        outputs = [output for output in outputs_of(function(*call.arguments)) if output.requires_grad]
        if call.gradient:
            torch.autograd.grad(outputs, call.leaves, call.cotangents(outputs, number))

    for number in range(WARMUP_CALLS):
        call.refill(number)
        once(number)
    call.refill(WARMUP_CALLS)
    if device.type != "cuda":
        source = Path(args.kernel.path).with_suffix(".cpp")
        compiled = str(native.build(source)) if source.is_file() else None
        return OneCallAnswer(gradient=call.gradient, native=compiled, call_ms=_repeated(once, args.seconds))
    torch.cuda.synchronize(device)
    torch.cuda.profiler.start()
    once(WARMUP_CALLS)
    torch.cuda.synchronize(device)
    torch.cuda.profiler.stop()
    return OneCallAnswer(gradient=call.gradient)


def _repeated(once: Callable[[int], None], seconds: float) -> float:
    """Median milliseconds of a call; it is made at least once."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        once(WARMUP_CALLS)
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)
