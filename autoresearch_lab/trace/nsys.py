"""Nsight Systems: traces a job of an engine, and exports what it recorded as a database.

Collection begins and ends where the job says so (cudaProfilerStart, cudaProfilerStop), so that set-up, compilation and
the first steps are not in the trace; the process goes on after it, to answer.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.sandbox.supervisor import below
from autoresearch_lab.trace.launch import complaint, run_under
from autoresearch_trainer.jobs.tracing import TRACE, TraceAnswer, TraceArgs

# No sampling of the host: it costs time and says nothing about ranges. Graphs are shown kernel by kernel. Helpers that
# outlive the trainer (compile workers) are not waited for.
OPTIONS = (
    *("--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-graph-trace=node", "--wait=primary"),
    *("--capture-range=cudaProfilerApi", "--capture-range-end=stop", "--force-overwrite=true"),
)
EXPORT_SECONDS = 600.0


def trace(
    program: str, engine: Engine, args: TraceArgs, *, run_dir: Path, seconds: float
) -> tuple[TraceAnswer, list[Path]]:
    """(result of the job `trace`, [report, database]): the files lie in run_dir.

    Raises:
        LabError: the engine refused the request.
        LabFailure: the job failed, or nsys recorded or exported nothing.
    """
    report, database = (Path(run_dir).resolve() / f"trace.{suffix}" for suffix in ("nsys-rep", "sqlite"))
    command = [program, "profile", *OPTIONS, f"--output={report.with_suffix('')}"]
    found, printed = run_under(command, engine, TRACE, args, run_dir=run_dir, seconds=seconds)
    if not report.exists():
        raise LabFailure(f"capture: nsys recorded nothing: {complaint(printed)}; --tool torch does without it")
    export(program, report, database, "capture")
    return found, [report, database]


def export(program: str, report: Path, database: Path, what: str) -> None:
    """Write a report as a database. what: begins the message of an error.

    Raises:
        LabFailure: nsys exported nothing.
    """
    command = [program, "export", "--type=sqlite", "--force-overwrite=true", f"--output={database}", str(report)]
    try:
        done = subprocess.run(below(command), capture_output=True, text=True, timeout=EXPORT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise LabFailure(f"{what}: nsys export: {error}") from None
    if done.returncode != 0 or not database.exists():
        raise LabFailure(f"{what}: nsys export: {complaint(done.stdout, done.stderr)}")
