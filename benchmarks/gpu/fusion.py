"""What a kernel keeps the compiler from fusing, by Inductor's own scheduler, without a GPU.

A forward and backward pass of a small `upstream` is lowered as `torch.compile` would, with tensors without storage, for
the CPU: which pointwise operations and reductions meet in one generated kernel is decided by the rules that hold for a
GPU, too. A kernel's operator is a node of its own, and all that it reads and writes is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._functorch.aot_autograd import aot_function, make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_lab.catalog import Kernel
from autoresearch_trainer.config import PRESETS, TrainConfig
from autoresearch_trainer.kernel_files import KernelFile

LAYERS = 2


@dataclass
class Pass:
    """generated: launches that Inductor makes up; moved: bytes that they read and write, operators: bytes of the
    arguments and results of everything else."""

    generated: int = 0
    moved: int = 0
    operators: int = 0


def compiled_pass(*kernels: Kernel) -> Pass:
    """Forward and backward with these kernels, the baseline elsewhere."""
    config = TrainConfig.for_preset("upstream", steps=1, n_layer=LAYERS)
    ops = Ops.load({kernel.target: KernelFile.of(kernel.plain()) for kernel in kernels})
    model = GPT(config.model, ops, device="meta")
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = Pass()

    def lower(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        lowered = GraphLowering(graph, example_inputs=inputs)
        with V.set_graph_handler(lowered), V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
            lowered.run(*inputs)
            lowered._update_scheduler()
            _count(lowered, found)
        return make_boxed_func(graph.forward)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        return functional_call(model, dict(zip(named, values, strict=False)), (values[-1], values[-1]))

    # The baseline's mask for the CPU is an array that the model keeps, and has no storage here.
    unstored = mock.patch("torch._dynamo.utils.assert_no_fake_params_or_buffers")
    compiling = mock.patch("torch.compiler.is_compiling", return_value=True)
    with FakeTensorMode() as mode, unstored, compiling:
        values = [torch.empty(x.shape, dtype=x.dtype, requires_grad=x.requires_grad) for x in named.values()]
        batch, _ = PRESETS["upstream"].data_centre or (0, 0)
        values.append(torch.zeros(batch, config.model.sequence_len, dtype=torch.int64))
        aot_function(
            loss,
            fw_compiler=lower,  # type: ignore[arg-type]
            bw_compiler=lower,  # type: ignore[arg-type]
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )(*values).backward()
    return found


def _count(lowered: GraphLowering, found: Pass) -> None:
    for node in lowered.scheduler.nodes:
        kind = type(node).__name__
        if kind.startswith("Nop"):
            continue
        own = {member.get_name() for member in node.get_nodes()}
        made = set(node.get_buffer_names())
        seen = {dep.name for dep in node.read_writes.reads} - made
        seen |= {name for name in made if _used_outside(lowered, name, own)}
        moved = sum(_bytes(lowered, name) for name in seen)
        if kind.startswith("Extern"):
            found.operators += moved
        else:
            found.generated += 1
            found.moved += moved


def _used_outside(lowered: GraphLowering, name: str, own: set[str]) -> bool:
    users = lowered.scheduler.name_to_buf[name].users
    return name in lowered.get_output_names() or any(user.get_name() not in own for user in users)


def _bytes(lowered: GraphLowering, name: str) -> int:
    try:
        size, dtype = lowered.get_numel(name), lowered.get_dtype(name)
    except (KeyError, NotImplementedError):  # an operator's tuple of results: its members are counted
        return 0
    return int(size) * dtype.itemsize


def fusion(kernels: list[Kernel]) -> list[str]:
    """The page's part: each kernel alone."""
    lines = []
    base = compiled_pass()
    for kernel in [None, *kernels]:
        one = base if kernel is None else compiled_pass(kernel)
        change = (one.moved + one.operators - base.moved - base.operators) / 1e9
        lines.append(
            f"| {kernel.target if kernel else 'baseline'} | {one.generated} | {one.moved / 1e9:.1f} "
            f"| {one.operators / 1e9:.1f} | {f'{change:+.1f}' if kernel else ''} |"
        )
    return ["| kernel | generated launches | GB | operators, GB | change, GB |", "|---|---:|---:|---:|---:|", *lines]
