"""The parent side: starts a child, reads its messages, ends it on time, and turns every way of dying into words."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.sandbox.confine import environment
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.protocol import Message, decode
from autoresearch_trainer.jobs import Progress
from autoresearch_trainer.jobs.base import printable
from autoresearch_trainer.jobs.failures import FailureKind

__all__ = ["JobFailed", "Limits", "run_job", "signal_group"]

MAX_MESSAGE_BYTES = 64 << 20
TAIL_BYTES = 4000


# crash: a signal. timeout: no answer in time. protocol: it ended without an answer, or sent something that is not one.
# The others are what the job itself says of the exception that ended it.
Kind = Literal["crash", "timeout", "protocol"] | FailureKind


class JobFailed(LabFailure):
    """A job did not return a result. reason: the exception's own first line, where one ended it."""

    def __init__(self, kind: Kind, message: str, *, reason: str = "", detail: str = "") -> None:
        super().__init__(printable(message))
        self.kind: Kind = kind
        self.reason = printable(reason)
        self.detail = printable(detail)


def run_job(
    package: str,
    job: str,
    args: Mapping[str, Any],
    *,
    run_dir: Path,
    limits: Limits,
    variables: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Message:
    """Run `<package>.probe.JOBS[job](args, run_dir, report)` in a fresh process group and return its result, as JSON
    that nobody has looked at (see `Job.read`).

    The child's stdout and stderr go to files in `run_dir` and are never read for results. When the time limit passes,
    or the parent is interrupted, the whole process group is killed. `variables` are added to the child's
    environment, a confined job's too.

    Raises:
        LabError: `run_dir` cannot be made or written.
        JobFailed: the child crashed, hung, ran out of memory, raised, or broke the protocol.
    """
    run_dir = writable_folder(Path(run_dir).resolve(), "run folder")
    nonce = secrets.token_hex(16)
    own = dict(variables or {})
    inherited = {**_environment(), **own}
    reader, writer = os.pipe()
    job_file = run_dir / "job.json"
    job_file.write_text(
        json.dumps(
            {
                "engine_package": package,
                "job": job,
                "args": dict(args),
                "run_dir": str(run_dir),
                "nonce": nonce,
                "pipe": writer,
                "limits": limits.plain(),
            }
        ),
        encoding="utf-8",
    )
    with open(run_dir / "stdout.log", "wb") as out, open(run_dir / "stderr.log", "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "autoresearch_lab.sandbox.child", str(job_file)],
            cwd=run_dir,
            env={**environment(inherited, run_dir), **own} if limits.confined else inherited,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[writer],
            start_new_session=True,
        )
    os.close(writer)
    try:
        answer = _listen(reader, nonce, limits, on_progress)
        if answer is None:
            process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        answer = None
    except TimeoutError as error:
        raise JobFailed("timeout", f"{job}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise JobFailed("protocol", f"{job}: {error}") from None
    finally:
        os.close(reader)
        _end(process)
    return _judge(job, answer, process.returncode, run_dir)


def _environment() -> dict[str, str]:
    """The child's environment: the parent's, with the lab importable and no Python start-up hooks of the user.

    TRITON_INTERPRET is the lab's to set: in a user's shell it would let interpreted kernels pass for those of a GPU.
    """
    left_out = ("PYTHONSTARTUP", "PYTHONINSPECT", "TRITON_INTERPRET")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return environment


def _listen(reader: int, nonce: str, limits: Limits, on_progress: Callable[[Progress], None] | None) -> Message | None:
    """Read messages until a result or an error; None where the pipe closed without one.

    Of a confined job the first progress message is {"unenforced": [what this system cannot enforce, ...]}.

    Raises:
        TimeoutError: the time is over, in all or since the last message.
        ValueError: something other than a message of this job arrived.
    """
    buffer = b""
    end = time.monotonic() + limits.seconds
    quiet_end = end if limits.quiet_seconds is None else time.monotonic() + limits.quiet_seconds
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now >= end:
                raise TimeoutError(f"no answer within {limits.seconds:.0f} s")
            if now >= quiet_end:
                raise TimeoutError(f"nothing heard for {limits.quiet_seconds:.0f} s")
            if not selector.select(min(end, quiet_end) - now):
                continue
            chunk = os.read(reader, 1 << 16)
            if not chunk:
                return None
            buffer += chunk
            if len(buffer) > MAX_MESSAGE_BYTES:
                raise ValueError("the answer is larger than 64 MiB")
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                message = decode(line, nonce)
                if limits.quiet_seconds is not None:
                    quiet_end = time.monotonic() + limits.quiet_seconds
                if message["event"] in ("result", "error"):
                    return message
                told = message["event"] == "progress" or (message["event"] == "ready" and limits.confined)
                if told and on_progress is not None:
                    told_fields = {key: value for key, value in message.items() if key not in ("nonce", "event")}
                    on_progress(cast(Progress, told_fields))


def _end(process: subprocess.Popen) -> None:
    """Kill whatever is left of the child's process group and reap the child."""
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        pass
    signal_group(process)
    process.wait()


def signal_group(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    """Send it to everything that is left of the process group that `process` leads, which may itself have ended."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _judge(job: str, answer: Message | None, code: int, run_dir: Path) -> Message:
    if answer is not None and answer["event"] == "result":
        return answer["value"]
    tail = _tail(run_dir / "stderr.log")
    if answer is not None:
        kind, message, detail = answer["kind"], answer["message"], str(answer.get("traceback", ""))
        first = message.splitlines()[0] if message else "no message"
        if kind == "memory":
            raise JobFailed("memory", f"{job}: out of memory: {message}", reason=first, detail=detail)
        raise JobFailed(kind, f"{job}: {answer['type']}: {first}", reason=first, detail=detail or tail)
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        raise JobFailed("crash", f"{job}: ended by {name}", detail=tail)
    raise JobFailed("protocol", f"{job}: ended with status {code} and no answer", detail=tail)


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
