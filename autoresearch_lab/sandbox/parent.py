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
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from autoresearch_common.reading import parse_json
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.paths import CHECKOUT, writable_folder
from autoresearch_lab.sandbox import forked
from autoresearch_lab.sandbox.attempts import planted
from autoresearch_lab.sandbox.confine import environment
from autoresearch_lab.sandbox.forked import Started, python
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.protocol import Message, decode
from autoresearch_lab.sandbox.supervisor import GIVE_UP_SECONDS, GRACE_SECONDS
from autoresearch_trainer.jobs import Progress
from autoresearch_trainer.jobs.base import printable
from autoresearch_trainer.jobs.failures import FailureKind

__all__ = ["JobFailed", "Limits", "end_all", "run_job"]

MAX_MESSAGE_BYTES = 64 << 20
TAIL_BYTES = 4000
# Of some signals a person has to know what they mean here.
_MEANING = {
    "SIGKILL": ", which the lab did not send (memory may have run out)",
    "SIGSYS": ": it asked the system for what no job may use, such as shared memory between processes",
    "SIGXCPU": ": it used more processor time than it may",
}


# crash: a signal. killed: SIGKILL, which the lab did not send; where memory runs out the system does. timeout: no
# answer in time. protocol: it ended without an answer, or sent something that is not one. The others are what the job
# itself says of the exception that ended it.
Kind = Literal["crash", "killed", "timeout", "protocol"] | FailureKind


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
    modules: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Message:
    """Run `<package>.probe.JOBS[job](args, run_dir, report)` in a fresh process group and return its result, as JSON
    that nobody has looked at (see `Job.read`).

    The child's stdout and stderr go to files in `run_dir` and are never read for results. When the time limit passes,
    or the parent is interrupted or killed, all that the job started is killed (see `supervisor`). Whatever a confined
    job left running when it ended is told last, as {"left": [names]}. `variables` are added to the child's
    environment, a confined job's too. `modules`: what the job imports before anything of a kernel; where this system
    can, it is forked from a process that has done so (see `forked`).

    Raises:
        LabError: `run_dir` cannot be made or written.
        JobFailed: the child crashed, hung, ran out of memory, raised, or broke the protocol.
    """
    run_dir = writable_folder(Path(run_dir).resolve(), "run folder")
    with planted() if limits.confined else nullcontext() as forbidden:
        request = {"engine_package": package, "job": job, "args": dict(args), "planted": forbidden and str(forbidden)}
        process, pipes = _start(request, run_dir, limits, modules, dict(variables or {}))
        try:
            answer = _listen(pipes, limits, on_progress)
            if answer is None:
                process.wait(timeout=2 * GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            raise JobFailed("protocol", f"{job}: closed the pipe to the lab and went on") from None
        except TimeoutError as error:
            raise JobFailed("timeout", f"{job}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise JobFailed("protocol", f"{job}: {error}") from None
        finally:
            code, left = _end(process, pipes)
    if left and limits.confined and on_progress is not None:
        on_progress({"left": left})
    return _judge(job, answer, code, run_dir)


@dataclass(frozen=True)
class _Pipes:
    """The lab's ends: of what the job says, each line with the nonce, and of what its supervisor says last."""

    nonce: str
    messages: int
    end: int


def _start(
    request: dict[str, Any], run_dir: Path, limits: Limits, modules: Sequence[str], variables: dict[str, str]
) -> tuple[Started, _Pipes]:
    inherited = {**_environment(), **variables}
    messages, writer = os.pipe()
    end, end_writer = os.pipe()
    pipes = _Pipes(secrets.token_hex(16), messages, end)
    request |= {"run_dir": str(run_dir), "nonce": pipes.nonce, "limits": limits.plain()}
    job_file = run_dir / "job.json"
    try:
        job_file.write_text(json.dumps({**request, "pipe": writer, "end_pipe": end_writer}), encoding="utf-8")
        full = {**environment(inherited, run_dir, limits.gpu), **variables} if limits.confined else inherited
        with open(run_dir / "stdout.log", "wb") as out, open(run_dir / "stderr.log", "wb") as err:
            given: Any = {"cwd": run_dir, "env": full, "stdout": out, "stderr": err, "pass_fds": [writer, end_writer]}
            process: Started = forked.start(job_file, modules, **given) or subprocess.Popen(
                [*python(limits.confined), "autoresearch_lab.sandbox.child", str(job_file)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **given,
            )
    except BaseException:
        os.close(messages)
        os.close(end)
        raise
    finally:
        os.close(writer)
        os.close(end_writer)
    return process, pipes


def _environment() -> dict[str, str]:
    """The child's environment: the parent's, with the lab importable and no Python start-up hooks of the user.

    TRITON_INTERPRET is the lab's to set: in a user's shell it would let interpreted kernels pass for those of a GPU.
    """
    left_out = ("PYTHONSTARTUP", "PYTHONINSPECT", "TRITON_INTERPRET")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return environment


def _listen(pipes: _Pipes, limits: Limits, on_progress: Callable[[Progress], None] | None) -> Message | None:
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
        selector.register(pipes.messages, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now >= end:
                raise TimeoutError(f"no answer within {limits.seconds:.0f} s")
            if now >= quiet_end:
                raise TimeoutError(f"nothing heard for {limits.quiet_seconds:.0f} s")
            if not selector.select(min(end, quiet_end) - now):
                continue
            chunk = os.read(pipes.messages, 1 << 16)
            if not chunk:
                return None
            buffer += chunk
            if len(buffer) > MAX_MESSAGE_BYTES:
                raise ValueError("the answer is larger than 64 MiB")
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                message = decode(line, pipes.nonce)
                if limits.quiet_seconds is not None:
                    quiet_end = time.monotonic() + limits.quiet_seconds
                if message["event"] in ("result", "error"):
                    return message
                ready = message["event"] == "ready" and limits.confined
                if on_progress is not None and (ready or message["event"] == "progress"):
                    # What a job says of its confinement counts before anything of a kernel is loaded, and not later.
                    held_back = {"nonce", "event", *(() if ready else ("unenforced", "left"))}
                    told = {key: value for key, value in message.items() if key not in held_back}
                    on_progress(cast(Progress, told))


def _end(process: Started, pipes: _Pipes) -> tuple[int, list[str]]:
    """End whatever is left of the job: (its exit status as `Popen.returncode` has it, the names of what it had started
    and left behind)."""
    os.close(pipes.messages)
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        pass
    # Elsewhere than on Linux that is the job itself, and nothing is gained by asking it.
    end_all(process, 2 * GIVE_UP_SECONDS if sys.platform == "linux" else 0.0)
    os.set_blocking(pipes.end, False)
    with open(pipes.end, "rb") as pipe:
        told = pipe.read() or b""
    try:
        said = parse_json(told, "what the supervisor said")
        left = [f"{printable(name)[:40]}" for name in dict.fromkeys([*said["left"], *said["adopted"]])]
        return int(said["status"]), left
    except (ValueError, KeyError, TypeError):
        return process.wait(), []


def end_all(process: Started, seconds: float = GRACE_SECONDS + GIVE_UP_SECONDS) -> None:
    """End a process that leads a group, and everything below it: it is asked first, for its supervisor knows what the
    group does not hold, and killed with its group after so many seconds."""
    if process.returncode is None and seconds:
        _signal(os.kill, process.pid, signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    _signal(os.killpg, process.pid, signal.SIGKILL)
    process.wait()


def _signal(send: Callable[[int, int], None], process: int, number: int) -> None:
    try:
        send(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def _judge(job: str, answer: Message | None, code: int, run_dir: Path) -> Message:
    if answer is not None and answer["event"] == "result":
        return answer["value"]
    tail = _tail(run_dir / "stderr.log")
    _keep(run_dir / "stderr.log")
    if answer is not None:
        kind, message, detail = answer["kind"], answer["message"], str(answer.get("traceback", ""))
        first = message.splitlines()[0] if message else "no message"
        if kind == "memory":
            raise JobFailed("memory", f"{job}: out of memory: {message}", reason=first, detail=detail)
        raise JobFailed(kind, f"{job}: {answer['type']}: {first}", reason=first, detail=detail or tail)
    if code < 0:
        name = signal.Signals(-code).name
        died: Kind = "killed" if -code == signal.SIGKILL else "crash"
        raise JobFailed(died, f"{job}: ended by {name}{_MEANING.get(name, '')}", detail=tail)
    raise JobFailed("protocol", f"{job}: ended with status {code} and no answer", detail=tail)


def _keep(log: Path) -> None:
    """The log of a job that failed, beside where the next job in this folder begins its own."""
    with suppress(OSError):
        if log.stat().st_size and not log.is_symlink():
            os.replace(log, log.with_name(f"stderr-{secrets.token_hex(3)}.log"))


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
