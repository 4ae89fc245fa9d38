"""Verb `verify`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import click

from autoresearch_lab import machine
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import SEED
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.subject import KernelWords, kernel_arguments
from autoresearch_lab.engine import INTERPRETERS, Engine, has_gpu, interpreter, lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.jobs import running
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.verify.run import verify
from autoresearch_lab.verify.small import small_workloads
from autoresearch_lab.verify.table import render
from autoresearch_lab.workloads import WorkloadSet

if TYPE_CHECKING:
    from autoresearch_lab.workspace import Workspace


def run(session: Session, *, named: list[KernelWords], seed: int | None, interpreted: bool) -> VerbResult:
    profile_id = None
    if named[0].folder is not None:
        opened = named[0].open(session.lab)
        subject, profile_id = opened.target, opened.profile_id
        candidate, captured, found = _of_workspace(session, opened, interpreted)
    else:
        subject = named[0].subject(session.lab)
        candidate, captured, found = _of_catalogue(session, subject, named[0].name, interpreted)
    folder = session.lab.root.runs / f"verify-{subject.name}-{secrets.token_hex(4)}"
    with progress(session.log, session.verb) as show, running(folder) as run_dir:
        record = verify(
            candidate,
            subject,
            captured,
            Lab.of(found, session.lab.root, session.lab.ledger),
            seed=seed,
            run_dir=run_dir,
            profile_id=profile_id,
            on_progress=show,
        )
    data: dict[str, object] = {
        **record.results.plain(),
        "verdict": record.verdict,
        "interpreted": record.settings.interpreted,
        "record": record.id,
        "target": subject.name,
        "kernel": candidate.plain(),
        "seed": record.seeds.verify if record.seeds else None,
        "not_enforced": record.settings.not_enforced,
    }
    return VerbResult(data, lambda console: render(record, console), positive=record.verdict == "PASS")


def _of_workspace(session: Session, opened: Workspace, interpreted: bool) -> tuple[Kernel, WorkloadSet, Context]:
    """As `_of_catalogue`. On the CPU a kernel meets small calls, not those of the workspace."""
    kernel = opened.kernel
    if interpreted and kernel.language not in INTERPRETERS:
        raise LabError(
            f"verify: --interpreted is for Triton and Metal kernels; {kernel.path} is written in {kernel.language}"
        )
    if interpreted or lacks_gpu(kernel.language):
        return _on_cpu(session, opened.target, kernel, asked=interpreted)
    opened.require_engine(session.lab.engine.name, "verify")
    return kernel, opened.workloads, session.lab.context


def _of_catalogue(
    session: Session, subject: Target, name: str, interpreted: bool
) -> tuple[Kernel, WorkloadSet, Context]:
    """(kernel, the calls to verify it on, and where). Kernels in Triton and in Metal run on the CPU where asked, and
    where the engine has no GPU."""
    if interpreted:
        candidate = next((k for k in subject.kernels if k.name == name and k.language in INTERPRETERS), None)
        if candidate is None:
            known = ", ".join(kernel.name for kernel in subject.kernels if kernel.language in INTERPRETERS) or "none"
            raise LabError(f"verify: --interpreted is for Triton and Metal kernels; {subject.name} has: {known}")
        return _on_cpu(session, subject, candidate, asked=True)
    if session.engine_name == "cuda" and not has_gpu():
        candidate = subject.kernel(name, "torch")
        if candidate.language != "triton":
            raise LabError(
                f"verify: no NVIDIA GPU answers, and the interpreter is for Triton kernels; "
                f"{subject.name}={name} is {candidate.language}"
            )
        return _on_cpu(session, subject, candidate, asked=False)
    from autoresearch_lab.profile import ensure_workloads

    candidate = subject.kernel(name, session.lab.engine.framework)
    if candidate.language == "metal" and lacks_gpu("metal"):
        return _on_cpu(session, subject, candidate, asked=False)
    if not candidate.runs_on(session.lab.engine.framework, session.lab.engine.device):
        hint = "; with --interpreted Triton's interpreter runs it" if candidate.language == "triton" else ""
        raise LabError(f"verify: {subject.name}={name} {candidate.obstacle(session.lab.engine.device)}{hint}")
    return candidate, ensure_workloads(subject, session.lab), session.lab.context


WITHOUT_GPU = {
    "triton": "no NVIDIA GPU answers: Triton's interpreter runs the kernel on the CPU",
    "metal": "there is no Apple GPU: the Metal kernel is compiled for the CPU",
}


def _on_cpu(session: Session, subject: Target, kernel: Kernel, *, asked: bool) -> tuple[Kernel, WorkloadSet, Context]:
    """asked: --interpreted was given; else it is said why."""
    if not asked:
        session.log.print(WITHOUT_GPU[kernel.language], style="yellow")
    engine: Engine = interpreter(kernel.language)
    return kernel, small_workloads(subject, engine.name), machine.context(engine, session.lab.root)


COMMANDS = {
    "verify": command(
        "verify",
        run,
        "Is the kernel right? Runs all checks; exit code 0 = PASS.",
        kernel_arguments(),
        click.option("--interpreted", is_flag=True, help="Run a Triton or Metal kernel on the CPU."),
        click.option("--seed", type=SEED, help="Repeat an earlier verification's cases [default: drawn]."),
    )
}
