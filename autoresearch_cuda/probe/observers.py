"""What is watched beside the clock: outputs of timed calls, peak memory, and how Triton kernels were tuned."""

import random
import sys
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from autoresearch_cuda.probe.tensors import probe
from autoresearch_trainer.jobs.calls import Configuration

POSITIONS = 512


def output_probe(rng: random.Random) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a Keeper keeps of an output: elements at places drawn from `rng`, and means."""
    generator = torch.Generator().manual_seed(rng.randrange(1 << 31))
    positions = torch.randint(1 << 40, (POSITIONS,), generator=generator)
    return lambda output: probe(output, positions)


def configurations() -> list[Configuration]:
    """The configurations that tuned Triton kernels of this process ran with (see `triton_kit.chosen`); a kernel without
    Triton has not imported that, and neither does this."""
    kit = sys.modules.get("autoresearch_cuda.triton_kit")
    return [Configuration(**found) for found in kit.chosen()] if kit is not None else []


def peak_bytes(action: Callable[[], object], device: torch.device) -> int | None:
    """Most memory that PyTorch's allocator held at once during `action`, beyond what it held before; None if unknown.

    On the CPU from the profiler's record of every allocation; scratch that native code takes by itself is not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    results = getattr(getattr(profiler, "profiler", None), "kineto_results", None)
    if results is None:
        return None
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
