"""A training step of preset `upstream` on a GPU that is not there: tensors without storage, launches noted.

A process that calls `pretend` is of use for nothing else: it executes no kernel any more. The operators of kernels run
their own code on tensors without storage, so every launch, and every operation of PyTorch's beside them, is seen with
the sizes that it has in the trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoresearch_common import workload as w
from autoresearch_common.workload import Spec, Workload
from autoresearch_cuda import triton_kit
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_cuda.operators import Operators
from autoresearch_cuda.optim import MuonAdamW
from autoresearch_cuda.probe.capture import Capture
from autoresearch_cuda.probe.launches import Launch, Launches, call_both_ways
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_trainer.config import PRESETS, TrainConfig
from autoresearch_trainer.jobs.tracing import TargetInfo
from autoresearch_trainer.kernel_files import KernelFile

PROCESSORS = 132  # of an H100 SXM and an H200: a persistent launch has so many programs, or twice as many
ARCH = "sm_90"
PRESET = "upstream"
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Operation:
    """One of PyTorch's that does work. moved: bytes of its operands and results; products: operations of a matrix
    product."""

    name: str
    moved: int
    products: int


@dataclass
class Work:
    """What calls did: launches of Triton kernels, of a tuned one in its first configuration, and other operations."""

    launches: list[Launch] = field(default_factory=list)
    others: list[Operation] = field(default_factory=list)


class _Others(TorchDispatchMode):
    def __init__(self, found: list[Operation]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":
            with self:  # a product and a conversion have several guises
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        read = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        if func.namespace != "aten":  # an operator of a kernel, whose own operations are noted
            return result
        view = any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)
        if made and not view and "empty" not in name:
            products = 2 * made[0].numel() * read[0].shape[-1] if name in ("mm", "bmm") else 0
            # What is written in place is read only where it is added to.
            moved = sum(x.numel() * x.element_size() for x in [*read[name in ("copy_", "zero_", "fill_") :], *made])
            self.found.append(Operation(name, moved, products))
        return result


class _Calls(Capture):
    """The calls of a step without samples of their inputs."""

    def leading_rows(self, array: Tensor) -> Tensor:
        return torch.empty(0)


class Pretence:
    """The process after `pretend`."""

    def __init__(self, launches: Launches, others: list[Operation]) -> None:
        self._launches, self._others = launches, others
        self._mode = FakeTensorMode()
        self._mode.cache_enabled = False  # every call runs

    def calls(self, catalog: dict[str, Target]) -> dict[str, list[Workload]]:
        """{target: its distinct calls in one optimizer step}, made by the baseline with the data centre's batch."""
        infos = {
            name: TargetInfo(tuple(a.name for a in target.contract.args), target.contract.phase)
            for name, target in catalog.items()
        }
        capture = _Calls(infos)

        def wrap(target: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*args: Any, **kwargs: Any) -> Any:
                capture.record(target, args, kwargs, in_step=True)
                return function(*args, **kwargs)

            return noted

        batch, tokens = PRESETS[PRESET].data_centre or (0, 0)
        config = TrainConfig.for_preset(PRESET, batch_size=batch, total_batch_tokens=tokens, steps=1)
        ops = Ops.baseline(wrap)
        model = GPT(config.model, ops, device="meta")
        ids = torch.zeros(batch, config.model.sequence_len, dtype=torch.int64, device="meta")
        for _ in range(config.accumulation):
            model(ids, ids).backward()
        MuonAdamW(model, config, ops).step(1.0, 1.0, 0.95)
        return {
            target: [
                Workload(
                    target=target, args=call.specs, phase=infos[target].phase, calls_per_step=call.calls, sample=None
                )
                for call in found.values()
            ]
            for target, found in capture.step.items()
        }

    def work(self, kernels: list[Kernel], workload: Workload) -> dict[str, Work]:
        """{direction: what one call of the workload's target does}; `kernels`: its own and those of its parts."""
        ends: list[tuple[int, int]] = []
        self._launches.found.clear()
        self._others.clear()
        target = workload["target"]
        with self._mode:
            function = getattr(Ops.load({one.target: KernelFile.of(one.plain()) for one in kernels}), target)

            def forward(*args: Any) -> Any:
                results = function(*args)
                ends.append((len(self._launches.found), len(self._others)))
                return results

            arguments = [_argument(spec) for spec in workload["args"]]
            FakeTensor.is_cuda = property(lambda self: True)  # type: ignore[method-assign, assignment]
            try:
                with _Others(self._others):
                    call_both_ways(forward, tuple(arguments), [bool(spec.get("grad")) for spec in workload["args"]])
            finally:
                del FakeTensor.is_cuda
        ((launched, done),) = ends
        forwards = Work(_first(self._launches.found[:launched]), self._others[:done])
        backwards = Work(_first(self._launches.found[launched:]), self._others[done:])
        return {FORWARD: forwards, **({BACKWARD: backwards} if backwards.launches or backwards.others else {})}


def _first(launches: list[Launch]) -> list[Launch]:
    """Of each tuned launch the first configuration that is one for Hopper."""
    kept: dict[int, Launch] = {}
    fitting = [one for one in launches if one.config is None or triton_kit.suits(one.config, ARCH)]
    return [one for one in fitting if one.call is None or kept.setdefault(one.call, one) is one]


def beyond(workload: Workload) -> Workload:
    """The call with its first axis so much longer that its largest array has 2^32 elements or more."""
    arrays = w.arrays(workload)
    rows, largest = arrays[0]["shape"][:1], max(map(w.size, arrays))
    times = 1 << max(0, 32 - (largest.bit_length() - 1))
    longer = {
        spec["name"]: ([spec["shape"][0] * times, *spec["shape"][1:]], spec["strides"])
        for spec in arrays
        if spec["shape"] and spec["shape"][:1] == rows
    }
    return w.variant(workload, **longer)


def pretend() -> Pretence:
    """From now on this process takes tensors without storage for those of an H100, and executes no launch."""
    launches = Launches()
    others: list[Operation] = []
    launches.install()
    define = Operators.define

    def as_computed(self: Operators, schema: str, compute: Callable[..., Any], fake: Any, **more: Any) -> Any:
        def run(*args: Any) -> Any:
            with _Others(others):
                return compute(*args)

        return define(self, schema, compute, run, **more)

    Operators.define = as_computed  # type: ignore[method-assign]
    of_a_gpu = SimpleNamespace(multi_processor_count=PROCESSORS)
    torch.cuda.get_device_properties = lambda _: of_a_gpu  # type: ignore[assignment, misc, return-value]
    return Pretence(launches, others)


def _argument(spec: Spec) -> Any:
    if spec["kind"] == "scalar":
        return spec["value"]
    return torch.empty_strided(spec["shape"], spec["strides"], dtype=getattr(torch, spec["dtype"]))
