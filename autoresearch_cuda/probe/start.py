"""Job `start`: does the device answer in a process that is set up like this one, does a kernel run, does the compiler?

A GPU's driver, Triton and Inductor each need more of the system than computing does, and confinement may be in the way
of any of them. One such job says which, before many are lost to it.
"""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda.probe import Report
from autoresearch_trainer.jobs.machine import StartAnswer, StartArgs
from autoresearch_trainer.kernel_files import Kernel, KernelFile, load_kernel

SHAPE = (64, 256)
MOST_WORDS = 600


def run(args: StartArgs, run_dir: Path, report: Report) -> StartAnswer:
    """Try each in turn; what comes after a failure of the device is not tried."""
    device = torch.device(args.device)

    def square(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x).square()

    def call(function: Callable[[torch.Tensor], Any]) -> None:
        function(torch.ones(SHAPE, device=device, dtype=torch.bfloat16))
        if device.type == "cuda":
            torch.cuda.synchronize()

    found = {"device": _attempt(lambda: call(square))}
    if found["device"] is not None:
        return StartAnswer(found=found)
    for name, kernel in args.kernels.items():
        report({"stage": name})
        found[name] = _attempt(partial(_load_and_call, kernel, call))
    if args.compile:
        report({"stage": "torch.compile"})
        found["torch.compile"] = _attempt(lambda: call(torch.compile(square)))
    return StartAnswer(found=found)


def _load_and_call(kernel: KernelFile, call: Callable[[Kernel], None]) -> None:
    call(load_kernel(kernel))


def _attempt(action: Callable[[], None]) -> str | None:
    """None, or the error in one line: the end of it, where compilers say what they miss."""
    try:
        action()
    except Exception as error:  # of any kind: which one is the finding
        traceback.print_exc()
        return " ".join(f"{type(error).__name__}: {error}".split())[-MOST_WORDS:]
    return None
