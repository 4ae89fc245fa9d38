"""Records of kind "compile": what the compiler makes of a Triton kernel."""

from __future__ import annotations

from autoresearch_lab.results.base import Facts, Typed


class CompileSettings(Typed):
    """arch: the architectures compiled for. first_only: only the first configuration of each tuned kernel. triton: its
    version. least_vector_share: share of bytes that has to be loaded widely. calls: hash of what was compiled."""

    arch: list[str]
    first_only: bool = False
    triton: str | None = None
    least_vector_share: float | None = None
    contract_sha256: str | None = None
    calls: str | None = None


class CompiledKernel(Typed):
    """One kernel, configuration and architecture; `error` and nothing below it where it does not compile.

    signature: type by parameter. dot: it multiplies matrices in a precision that tensor cores have. registers: per
    thread; spill_bytes: per thread; shared_bytes: per program. load_widths: {bytes per thread: number of loads};
    store_widths likewise, and instructions: in machine code, both for NVIDIA's GPUs only. tensor_core: {instruction:
    how often}. wide: bytes per thread from which on a load is a wide one; vector_share: share of the loaded bytes that
    come in wide loads, None without loads. problems: in words.
    """

    kernel: str
    arch: str
    config: Facts = {}
    signature: dict[str, str] = {}
    error: str | None = None
    dot: bool = False
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    load_widths: dict[str, int] = {}
    store_widths: dict[str, int] = {}
    instructions: int = 0
    tensor_core: dict[str, int] = {}
    wide: int = 0
    vector_share: float | None = None
    problems: list[str] = []


class CompileResults(Typed):
    """ok: no kernel has a problem."""

    ok: bool
    kernels: list[CompiledKernel] = []
