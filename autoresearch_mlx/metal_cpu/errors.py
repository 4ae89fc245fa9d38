"""What can go wrong between a kernel's source and its results. Every message is one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoresearch_mlx.metal_cpu.findings import Finding


class MetalCpuError(Exception):
    """Base of this package's errors; `exit_code` is for a front door (2: the request is at fault, 1: the kernel)."""

    exit_code = 2


class CompilerMissing(MetalCpuError):
    """There is no C++ compiler on this machine, so kernels cannot be run here."""


class CompilerUnsuitable(MetalCpuError):
    """The C++ compiler lacks something that every kernel needs, such as binary16 arithmetic."""


class SourceError(MetalCpuError):
    """A kernel source that cannot be used. `line` counts from 1 in `where` ("source" or "header")."""

    exit_code = 1

    def __init__(self, message: str, where: str = "source", line: int = 0) -> None:
        self.where = where
        self.line = line
        super().__init__(f"{where}, line {line}: {message}" if line else message)


class Unsupported(SourceError):
    """Metal may accept this source, but this package cannot translate it faithfully, so it does not try."""


class MetalRejects(SourceError):
    """The source is C++ that a Metal compiler refuses."""


class CompileFailed(SourceError):
    """The translated source does not compile. `output` is all that the compiler said."""

    def __init__(self, message: str, output: str = "") -> None:
        self.output = output
        super().__init__(message)


class LaunchFailed(MetalCpuError):
    """The kernel could not be started: no memory for its buffers and stacks."""

    exit_code = 1


class KernelFault(MetalCpuError):
    """The kernel ran and did something wrong; `findings` says what and where."""

    exit_code = 1

    def __init__(self, kernel: str, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        super().__init__(f"kernel {kernel}: {self.findings[0]}{more}")
