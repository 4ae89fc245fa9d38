"""Runs the source of MLX's custom Metal kernels on the CPU, and looks for what is wrong with them.

`metal_kernel(...)` takes what `mx.fast.metal_kernel` takes and gives a callable with the same call. It compiles the
source with the system's C++ compiler and works on arrays of MLX and of NumPy alike; MLX need not be installed. What it
models, and what it cannot, is in docs/metal-on-cpu.md.
"""

from autoresearch_mlx.metal_cpu.build import available
from autoresearch_mlx.metal_cpu.errors import (
    CompileFailed,
    CompilerMissing,
    CompilerUnsuitable,
    KernelFault,
    LaunchFailed,
    MetalCpuError,
    MetalRejects,
    SourceError,
    Unsupported,
)
from autoresearch_mlx.metal_cpu.findings import Finding, Place, Report
from autoresearch_mlx.metal_cpu.kernel import MetalKernel, metal_kernel

__all__ = [
    "CompileFailed",
    "CompilerMissing",
    "CompilerUnsuitable",
    "Finding",
    "KernelFault",
    "LaunchFailed",
    "MetalCpuError",
    "MetalKernel",
    "MetalRejects",
    "Place",
    "Report",
    "SourceError",
    "Unsupported",
    "available",
    "metal_kernel",
]
