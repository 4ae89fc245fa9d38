"""Every kernel of every target on the CPU under pytest-benchmark: baseline, library and candidates side by side.

    python -m pytest benchmarks --benchmark-enable                       everything
    python -m pytest benchmarks --benchmark-enable -k "rope and cpp"      some of it
    python -m pytest benchmarks --benchmark-enable --benchmark-autosave   kept for --benchmark-compare

Rows of one group did the same work on the same inputs. Contents change before every round, outside the timed part.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from autoresearch_common.arrays import is_float, storage
from autoresearch_cuda.probe.stopwatch import Call
from autoresearch_cuda.process import prepare_process
from autoresearch_lab.bench.inputs import has_gradient
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.jobs.timing import TimedCall
from autoresearch_trainer.kernel_files import KernelFile, load_kernel
from benchmarks.nano_calls import CALLS, workload

SECONDS = 1.0
LEAST_ROUNDS, MOST_ROUNDS = 5, 2000
SHIFTS = [1, 17, 101]
ROLES = ("baseline", "library", "candidate")


def _cases() -> list:
    found = []
    for target in load_catalog(Root()).values():
        kernels = [kernel for kernel in target.kernels if kernel.runs_on("torch", "cpu")]
        for call in CALLS.get(target.name, {}):
            for kernel in sorted(kernels, key=lambda kernel: ROLES.index(kernel.role)):
                found.append(pytest.param(target, kernel, call, id=f"{target.name}-{call}-{kernel.name}"))
    return found


@pytest.fixture(scope="module", autouse=True)
def process() -> None:
    prepare_process()


def prepared(target: Target, call: str) -> Call:
    """The call on typical inputs of a fixed seed."""
    described = workload(target.name, call)
    drawn = target.oracle.inputs(described, np.random.default_rng(1), "typical")
    contents = {}
    for spec in described["args"]:
        if spec["kind"] == "array":
            value = np.asarray(drawn[spec["name"]]).astype(storage(spec["dtype"]))
            # torch takes no bfloat16 from NumPy; every bfloat16 is exact in float32.
            tensor = torch.from_numpy(np.ascontiguousarray(value.astype(np.float32) if is_float(value) else value))
            contents[spec["name"]] = tensor.reshape(value.shape).to(getattr(torch, spec["dtype"]))
    call_of: TimedCall = {
        "id": described["id"],
        "args": described["args"],
        "gradient": has_gradient(target, described),
        "shifts": SHIFTS,
    }
    return Call(call_of, contents, torch.device("cpu"))


def action(kernel: Kernel, call: Call) -> Callable[[], object]:
    """One call: forward, and backward where the trainer needs it."""
    function = load_kernel(KernelFile.of(kernel.plain()))
    arguments, leaves = call.arguments, call.leaves

    def forward() -> object:
        return function(*arguments)

    def both() -> object:
        result = function(*arguments)
        outputs = [result] if isinstance(result, torch.Tensor) else list(result)
        return torch.autograd.grad(outputs, leaves, call.cotangents(outputs, 0))

    return both if call.gradient else forward


@pytest.mark.parametrize("target,kernel,call", _cases())
def test_kernel(benchmark, target: Target, kernel: Kernel, call: str) -> None:
    subject = prepared(target, call)
    run = action(kernel, subject)
    subject.refill(0)
    run()
    seconds = min(_seconds(run, subject, number) for number in range(1, 4))
    rounds = int(max(LEAST_ROUNDS, min(MOST_ROUNDS, SECONDS / seconds)))
    numbers = iter(range(1 << 30))
    benchmark.group = f"{target.name} {call} {'forward + backward' if subject.gradient else 'forward'}"
    benchmark.extra_info.update(role=kernel.role, sha256=kernel.sha256)
    benchmark.pedantic(run, setup=lambda: subject.refill(next(numbers)), rounds=rounds)


def _seconds(run: Callable[[], object], call: Call, number: int) -> float:
    call.refill(number)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
