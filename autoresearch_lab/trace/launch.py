"""Runs a job of an engine under a tool that has to start the process itself: Nsight Systems, Nsight Compute, perf."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoresearch_common.reading import BadFile, read_json
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.jobs import REFUSED
from autoresearch_lab.paths import python_path
from autoresearch_lab.sandbox.command import run_within
from autoresearch_lab.sandbox.forked import python
from autoresearch_lab.trace.child import ANSWER
from autoresearch_trainer.jobs import AnswerRefused, Job
from autoresearch_trainer.jobs.base import A, R

VERSION_SECONDS = 60.0


def find(tool: str, use: str) -> str:
    """Path of the tool's program.

    Raises:
        LabError: it is not on the PATH.
    """
    path = shutil.which(tool)
    if path is None:
        raise LabError(f"{use}: {tool} is not on this machine (doctor says what to install)")
    return path


def version(program: str) -> str | None:
    """The line in which the program names its version; None where it does not."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip() for line in told.stdout.splitlines() if "version" in line.lower()]
    return lines[-1] if lines else None


def run_under(
    command: Sequence[str],
    engine: Engine,
    job: Job[A, R],
    args: A,
    *,
    run_dir: Path,
    seconds: float,
    variables: Mapping[str, str] | None = None,
) -> tuple[R, str]:
    """(the job's answer, what tool and job printed on stdout). command: the tool and its options. variables: of the
    environment, besides this process's.

    stdout and stderr are kept in run_dir. When the time is over, the whole process group is ended.

    Raises:
        LabError: the engine refused the request.
        LabFailure: the job or the tool failed, or ran out of time; one line says which.
    """
    run_dir = Path(run_dir).resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / ANSWER).unlink(missing_ok=True)
    request = run_dir / "request.json"
    given = args.model_copy(update={"device": engine.job_device}).model_dump(mode="json")
    content = {"engine_package": engine.package, "job": job.name, "args": given}
    request.write_text(json.dumps({**content, "run_dir": str(run_dir)}), encoding="utf-8")
    tool = Path(command[0]).name
    words = [*command, *python(confined=False), "autoresearch_lab.trace.child", str(request)]
    with open(run_dir / "stdout.log", "wb") as out, open(run_dir / "stderr.log", "wb") as err:
        code = run_within(seconds, words, run_dir, {**_environment(), **(variables or {})}, out, err)
    if code is None:
        raise LabFailure(f"{job.name}: no end under {tool} within {seconds:.0f} s")
    printed = _text(run_dir / "stdout.log")
    try:
        return job.read(_judge(run_dir, job.name, tool, code, printed)), printed
    except AnswerRefused as error:
        raise LabFailure(f"{job.name}: {error}") from None


def complaint(*texts: str) -> str:
    """The last line in which a tool says what went wrong, else the last line."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "==ERROR==" in line or "rror" in line]
    return (errors or lines or ["it said nothing"])[-1][:300]


def _environment() -> dict[str, str]:
    """This process's, with the lab and whatever this process found importable, wherever it found that.

    TRITON_INTERPRET would let the interpreter pass for a GPU.
    """
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    kept["PYTHONPATH"] = python_path()
    return kept


def _judge(run_dir: Path, job: str, tool: str, code: int, printed: str) -> object:
    try:
        answer = read_json(run_dir / ANSWER)
    except (OSError, BadFile):
        why = complaint(printed, _text(run_dir / "stderr.log"))
        raise LabFailure(f"{job}: {tool} ended with status {code} and no answer: {why}") from None
    if "value" in answer:
        return answer["value"]
    if answer["kind"] in REFUSED:
        raise LabError(answer["message"])
    first = answer["message"].partition("\n")[0] or "no message"
    raise LabFailure(f"{job}: {answer['error']}: {first}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
