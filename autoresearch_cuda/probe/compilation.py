"""Job `compile`: compiles the Triton kernels of a kernel file for named GPUs, without one, and reads what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda.probe import Report, assembly
from autoresearch_cuda.probe.launches import Launch, Launches, call_both_ways, example_calls
from autoresearch_trainer.errors import KernelError
from autoresearch_trainer.jobs.base import Scalar
from autoresearch_trainer.jobs.machine import CompileAnswer, CompileArgs, CompiledKernel
from autoresearch_trainer.kernel_files import load_kernel
from autoresearch_trainer.probe.native_code import definitions

MOST_MESSAGE = 400
WAVE = 64  # threads that run together on AMD's data-centre GPUs


def run(args: CompileArgs, run_dir: Path, report: Report) -> CompileAnswer:
    """Compile what the kernel launches on its `compile_cases` for each GPU.

    Raises:
        KernelError: the kernel does not load, is not made of Triton kernels, declares no calls to compile, or has no
        configuration for one of the architectures.
    """
    function = load_kernel(args.kernel)
    import triton

    cases = example_calls(function)
    if cases is None:
        raise KernelError(f"{args.kernel.name}: no compile_cases() in the file says what to compile")
    launches = Launches()
    launches.install()
    for arguments in cases():
        call_both_ways(function, arguments, args.grad)
    if not launches.found:
        raise KernelError(f"{args.kernel.name} launches no Triton kernel")
    wanted = _wanted(launches.found, args.arch, args.first_only)
    for arch in args.arch:
        if {launch.name for launch in launches.found} != {launch.name for launch, other in wanted if other == arch}:
            raise KernelError(f"{args.kernel.name} has no configuration for {arch}")
    done: set[str] = set()
    rows = []
    for number, (launch, arch) in enumerate(wanted):
        report({"stage": "compile", "done": number, "total": len(wanted)})
        row = compile_launch(launch, arch, triton, done)
        if row is not None:
            rows.append(row)
    declared = definitions(function).get("LEAST_VECTOR_SHARE", {})
    return CompileAnswer(triton=triton.__version__, kernels=rows, vector_share=dict(declared))


def _wanted(found: list[Launch], architectures: list[str], first_only: bool) -> list[tuple[Launch, str]]:
    """The launches with each architecture that they would be made on."""
    from autoresearch_cuda.triton_kit import suits

    wanted = []
    chosen: set[tuple[int | None, str]] = set()
    for launch in found:
        for arch in architectures:
            if launch.config is not None:
                if not suits(launch.config, arch) or (first_only and (launch.call, arch) in chosen):
                    continue
                chosen.add((launch.call, arch))
            wanted.append((launch, arch))
    return wanted


def gpu_target(arch: str) -> Any:
    """Triton's name for "sm_90" or "gfx942". Raises KernelError for anything else."""
    from triton.backends.compiler import GPUTarget

    if arch.startswith("sm_") and arch[3:].isdigit():
        return GPUTarget("cuda", int(arch[3:]), 32)
    if arch.startswith("gfx9"):
        return GPUTarget("hip", arch, WAVE)
    raise KernelError(f"unknown architecture {arch!r}; known: sm_80, sm_90, sm_100 and the like, gfx942")


def compile_launch(launch: Launch, arch: str, triton: Any, done: set[str]) -> CompiledKernel | None:
    """One kernel for one architecture; None where the same was compiled before."""
    from triton.compiler.compiler import ASTSource, make_backend

    target = gpu_target(arch)
    signature, constants, attributes = launch.specialised(make_backend(target))
    config = {name: value for name, value in launch.options.items() if name.startswith("num_")}
    names = [parameter.name for parameter in launch.function.params]
    config |= {names[place]: _word(value) for (place,), value in sorted(constants.items())}
    key = repr((launch.name, arch, signature, config, sorted(attributes)))
    if key in done:
        return None
    done.add(key)
    row = CompiledKernel(kernel=launch.name, arch=arch, config=config, signature=signature)
    source = ASTSource(fn=launch.function, signature=signature, constexprs=constants, attrs=attributes)
    try:
        compiled = triton.compile(source, target=target, options=dict(launch.options))
        shared = int(compiled.metadata.shared)
        if target.backend == "cuda":
            cubin = compiled.asm["cubin"]
            usage = assembly.resource_usage(cubin, triton.knobs.nvidia.cuobjdump.path)
            found = assembly.read_ptx(compiled.asm["ptx"], usage, shared, cubin)
        else:
            found = assembly.read_amdgcn(compiled.asm["amdgcn"], shared, WAVE)
    except Exception as error:  # whatever the compiler objects to, in words; the others are compiled all the same
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        words = f"{type(error).__name__}: {lines[-1] if lines else ''}"[:MOST_MESSAGE]
        return row.model_copy(update={"error": words})
    return row.model_copy(update={"dot": _has_tensor_core_work(compiled.asm["ttir"]), **found.plain()})


def _word(value: object) -> Scalar | None:
    """A constant as JSON."""
    if isinstance(value, torch.dtype) or not isinstance(value, (bool, int, float, str, type(None))):
        return str(value)
    return value


def _has_tensor_core_work(ttir: str) -> bool:
    """Whether matrices are multiplied in a precision that tensor cores have: all but exact float32 (no TF32)."""
    products = [line for line in ttir.splitlines() if "tt.dot" in line]
    return any("xf32> *" not in line or "tf32" in line for line in products)
