"""Records of kind "compile": what the compiler makes of a Triton kernel."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from autoresearch_lab.results.base import Typed


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
    """One kernel, signature, configuration and architecture. registers: per thread; spill_bytes: per thread;
    shared_bytes: per block; load_widths: {bytes: loads}; vector_share: of the loaded bytes that come in accesses of
    `wide` bytes or more; dot: it multiplies matrices; tensor_core: with tensor cores. problems: in words."""

    model_config = ConfigDict(extra="allow")
    kernel: str
    arch: str
    signature: Any = None
    config: dict[str, Any] = {}
    error: str | None = None
    problems: list[str] = []


class CompileResults(Typed):
    """ok: no kernel has a problem."""

    ok: bool
    kernels: list[CompiledKernel] = []
