"""What the compiler makes of a Triton kernel, for GPUs that need not be there: spills, loads, tensor cores."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence

from autoresearch_common.hashing import json_sha256
from autoresearch_lab import jobs, machine
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import ENGINES, compiler
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.compile import CompiledKernel, CompileResults, CompileSettings
from autoresearch_lab.results.record import CompileRecord
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.machine import COMPILE, CompileArgs
from autoresearch_trainer.jobs.machine import CompiledKernel as CompiledCall

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
# What Triton 3.9 compiles for. For other names it ends the process without a word, or compiles nothing.
KNOWN = (
    *("sm_70", "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121"),
    *("gfx906", "gfx908", "gfx90a", "gfx942", "gfx950"),
)
# Of the bytes that a thread loads from global memory at least this share comes in wide accesses (512 bytes per warp),
# unless the kernel file declares less for a kernel of its own (LEAST_VECTOR_SHARE) and says why.
LEAST_VECTOR_SHARE = 0.75
JOB_SECONDS, QUIET_SECONDS = 3600.0, 300.0


def architectures(text: str) -> list[str]:
    """ "sm_90,gfx942" as a list.

    Raises:
        LabError: empty, or a name that is not known.
    """
    found = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in found if name not in KNOWN]
    if wrong or not found:
        raise LabError(f"compile-check: unknown architecture '{', '.join(wrong)}'; known: {', '.join(KNOWN)}")
    return found


def compile_check(
    kernel: Kernel,
    target: Target,
    arch: Sequence[str],
    lab: Lab,
    *,
    first_only: bool = False,
    on_progress: Report | None = None,
) -> CompileRecord:
    """Compile every kernel that the file launches on its own example calls, forward and backward, for every
    architecture and declared configuration, and append the record (kind "compile"; results["ok"] says how it ended).

    first_only: of each tuned kernel's configurations only the first.

    Raises:
        LabError: the kernel is not a Triton kernel, does not load, or names no calls to compile.
        LabFailure: the process that compiles failed.
    """
    if kernel.language != "triton":
        raise LabError(f"compile-check: {target.name}={kernel.name} is {kernel.language}, not a Triton kernel")
    engine = compiler()
    run_dir = lab.root.runs / f"compile-{target.name}-{secrets.token_hex(4)}"
    args = CompileArgs(
        kernel=kernel.file,
        arch=list(arch),
        grad=[argument.grad for argument in target.contract.args],
        first_only=first_only,
    )
    limits = Limits(
        seconds=JOB_SECONDS, quiet_seconds=QUIET_SECONDS, confined=True, readable=(str(kernel.path.resolve().parent),)
    )
    with jobs.running(run_dir):
        answer = jobs.call(engine, COMPILE, args, run_dir=run_dir, limits=limits, on_progress=on_progress)
        shutil.rmtree(run_dir, ignore_errors=True)
    rows = [recorded(row, problems(row, answer.vector_share)) for row in answer.kernels]
    return lab.ledger.append(
        CompileRecord,
        engine=ENGINES["cuda"].name,
        software=machine.software(engine, lab.root),
        target=target.name,
        kernel=kernel.id,
        settings=CompileSettings(
            arch=list(arch),
            first_only=first_only,
            triton=answer.triton,
            least_vector_share=LEAST_VECTOR_SHARE,
            contract_sha256=target.contract_sha256,
            calls=json_sha256([[row.kernel, row.signature, row.config] for row in rows]),
        ),
        results=CompileResults(ok=not any(row.problems for row in rows), kernels=rows),
    )


def recorded(row: CompiledCall, found: list[str]) -> CompiledKernel:
    """As the record has it: of one that does not compile there are no findings."""
    if row.error:
        known = row.model_dump(include={"kernel", "arch", "config", "signature", "error"})
    else:
        known = row.model_dump(exclude={"error"})
    return CompiledKernel(**known, problems=found)


def problems(row: CompiledCall, declared: Mapping[str, float]) -> list[str]:
    """What is wrong with one compiled kernel, in words; empty where nothing is."""
    if row.error:
        return [f"does not compile: {row.error}"]
    found = []
    if row.spill_bytes:
        found.append(f"spills {row.spill_bytes} bytes per thread")
    least = declared.get(row.kernel, LEAST_VECTOR_SHARE)
    if row.vector_share is not None and row.vector_share < least:
        widths = ", ".join(f"{count} of {width}" for width, count in row.load_widths.items())
        found.append(
            f"only {row.vector_share:.0%} of its loads are {row.wide} bytes wide, {least:.0%} wanted ({widths})"
        )
    if row.dot and not row.tensor_core:
        found.append("multiplies matrices without tensor cores")
    return found
