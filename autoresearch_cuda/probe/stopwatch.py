"""One call of a kernel under the clock: the buffers that it reads, its fresh contents, and the timed windows."""

import time
from typing import Any

import torch

from autoresearch_cuda.probe.tensors import Buffer, rolled
from autoresearch_trainer.jobs.timing import TimedCall
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.load import involuntary_switches
from autoresearch_trainer.probe.rounds import Timing, content_scale, cotangent_sets, empty_window_ns


class Call:
    """One workload on buffers at fixed addresses.

    contents: {argument: tensor}. Content number n = the rows rolled by one of the shifts, and floating values scaled by
    a factor that no other n shares, so nothing computed for one call is of use in another.
    """

    def __init__(self, workload: TimedCall, contents: dict[str, torch.Tensor], device: torch.device) -> None:
        self.id: str = workload["id"]
        self.gradient: bool = workload["gradient"]
        self.buffers: dict[str, Buffer] = {}
        self.arguments: list[Any] = []
        for spec in workload["args"]:
            if spec["kind"] == "array":
                self.buffers[spec["name"]] = Buffer(spec, device, self.gradient)
                self.arguments.append(self.buffers[spec["name"]].tensor)
            else:
                self.arguments.append(spec["value"])
        self.leaves = [buffer.tensor for buffer in self.buffers.values() if buffer.tensor.requires_grad]
        self._pool = [
            {name: rolled(contents[name].to(device), shift) for name in self.buffers} for shift in workload["shifts"]
        ]
        self._cotangents: list[list[torch.Tensor]] = []

    def refill(self, number: int) -> None:
        """Content `number` into the buffers; arguments that a kernel updated in place start afresh."""
        scale = content_scale(number)
        contents = self._pool[number % len(self._pool)]
        for name, buffer in self.buffers.items():
            buffer.fill(contents[name], scale)

    def seeds(self, outputs: list[torch.Tensor], number: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(those outputs that backward starts from, their cotangents)."""
        differentiable = [output for output in outputs if output.requires_grad]
        return differentiable, self.cotangents(differentiable, number)

    def cotangents(self, outputs: list[torch.Tensor], number: int) -> list[torch.Tensor]:
        """Random cotangents in the outputs' dtypes, the same for every arm; 1 for a scalar, as a loss has it."""
        if not self._cotangents:
            generator = torch.Generator().manual_seed(len(self._pool))
            self._cotangents = [
                [
                    (torch.randn(o.shape, generator=generator) if o.ndim else torch.ones(())).to(o.device, o.dtype)
                    for o in outputs
                ]
                for _ in range(cotangent_sets(len(self._pool)))
            ]
        return self._cotangents[number % len(self._cotangents)]


class Stopwatch:
    """Times calls on the CPU in nanoseconds. To be made before any kernel is loaded: it keeps the clock that it found
    then. For a GPU see `gpu_stopwatch`.
    """

    def __init__(self) -> None:
        self.clock = time.perf_counter_ns

    def measure(self, function: Kernel, call: Call, number: int) -> Timing:
        """Forward, and backward where the trainer needs it, of one call on content `number`."""
        clock = self.clock
        call.refill(number)
        switches = involuntary_switches()
        start = clock()
        result = function(*call.arguments)
        forward = clock() - start
        outputs = outputs_of(result)
        if not call.gradient:
            return Timing(forward, 0, outputs, involuntary_switches() != switches)
        differentiable, cotangents = call.seeds(outputs, number)
        start = clock()
        gradients = torch.autograd.grad(differentiable, call.leaves, cotangents)
        backward = clock() - start
        return Timing(forward, backward, [*outputs, *gradients], involuntary_switches() != switches)

    def window_ns(self) -> float:
        return empty_window_ns(self.clock)

    def settings(self) -> dict[str, Any]:
        """How the times were taken, for the record."""
        return {"clock": "host", "cache": "as the writing of fresh contents left it"}


def outputs_of(result: Any) -> list[torch.Tensor]:
    """What a kernel returned, as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]
