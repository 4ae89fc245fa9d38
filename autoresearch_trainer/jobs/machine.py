"""Jobs about the machine: does it work, what is it, what can it do, what does its compiler make of a kernel."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autoresearch_trainer.jobs.base import Count, Facts, Job, JobAnswer, JobArgs, Scalar, Text
from autoresearch_trainer.kernel_files import KernelFile

Rate = Annotated[float, Field(gt=0)]


class StartArgs(JobArgs):
    """kernels: files of a target that takes one floating-point array, by name. compile: build something with
    torch.compile as well."""

    kernels: dict[str, KernelFile]
    compile: bool


class StartAnswer(JobAnswer):
    """found: {"device", a kernel's name, ..., "torch.compile"}: null, or what went wrong. What comes after a failure of
    the device was not tried."""

    found: dict[Text, Text | None]


class DescribeArgs(JobArgs):
    """Who is the device of kind `device`?"""


class DescribeAnswer(JobAnswer):
    """device: its identity ("kind", "name", ...); software: versions of what runs or builds kernels, null = not there.
    Evidence is keyed by both, so they come out the same in every run."""

    device: Facts
    software: dict[Text, Text | None]


class CeilingsArgs(JobArgs):
    """What a test makes smaller: bytes moved per call, and edges of the square matrices."""

    moved_bytes: list[int] | None = None
    matmul_sizes: list[int] | None = None


class CeilingsAnswer(JobAnswer):
    """copy_gb_s: [[bytes moved per call, GB/s], ...], the best pattern of traffic at each size, sizes rising.
    patterns: the same for each pattern. matmul_gflop_s: GFLOP/s by dtype; one that the hardware only emulates is
    missing. threads: of the process."""

    copy_gb_s: list[list[Rate]]
    patterns: dict[Text, list[list[Rate]]]
    matmul_gflop_s: dict[Text, Rate]
    threads: Count


class CompileArgs(JobArgs):
    """arch: GPUs to compile for ("sm_90", "gfx942", ...). grad: per parameter, whether it gets a gradient.
    first_only: of a tuned kernel's configurations only the first that suits the GPU."""

    kernel: KernelFile
    arch: list[str]
    grad: list[bool]
    first_only: bool = False


class CompiledKernel(JobAnswer):
    """One Triton kernel for one GPU and one configuration: what the compiler said, or `error` in its place.

    config: constants and options by name. signature: type by parameter. dot: it multiplies matrices in a precision that
    tensor cores have. registers: per thread; spill_bytes: per thread; shared_bytes: per program. load_widths: {bytes
    per thread: number of loads from global memory}; store_widths likewise, and instructions: in machine code, both for
    NVIDIA's GPUs only. tensor_core: {instruction: how often}. wide: bytes per thread from
    which on a load is a wide one; vector_share: share of the loaded bytes that come in wide loads, null without loads.
    """

    kernel: Text
    arch: Text
    config: dict[Text, Scalar | None]
    signature: dict[Text, Text]
    error: Text | None = None
    dot: bool = False
    registers: Count = 0
    spill_bytes: Count = 0
    shared_bytes: Count = 0
    load_widths: dict[Text, Count] = {}
    store_widths: dict[Text, Count] = {}
    instructions: Count = 0
    tensor_core: dict[Text, Count] = {}
    wide: Count = 0
    vector_share: float | None = None


class CompileAnswer(JobAnswer):
    """triton: its version. vector_share: {kernel: least share of wide loads that the file itself declares}."""

    triton: Text
    kernels: list[CompiledKernel]
    vector_share: dict[Text, float]


START = Job("start", StartArgs, StartAnswer)
DESCRIBE = Job("describe", DescribeArgs, DescribeAnswer)
CEILINGS = Job("ceilings", CeilingsArgs, CeilingsAnswer)
COMPILE = Job("compile", CompileArgs, CompileAnswer)
