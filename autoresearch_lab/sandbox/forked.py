"""Jobs that start by fork, from a process of the lab's that has imported what they need (see `fork_server`)."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Protocol

from autoresearch_common import sanitizer
from autoresearch_lab.sandbox.confine import OF_ONE_JOB

MOST_SERVERS = 3  # that have nothing to do; some 300 MB each
START_SECONDS = 120.0  # of imports, on a slow disk
# Where PyTorch leaves what a developer looks for, which it decides when it is imported.
_DEVELOPERS = {"TORCH_COMPILE_DEBUG", "TORCH_COMPILE_DEBUG_DIR", "TORCH_LOGS_OUT", "TORCH_TRACE"}


class Started(Protocol):
    """What the lab uses of a `subprocess.Popen`."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Forked:
    """A job that was started by fork; leads a group of its own."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """As `subprocess.Popen.wait`. Of a job whose server was ended, and the job with it, -9."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                told = self._channel.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("job", timeout or 0.0) from None
            self._channel.close()
            self.returncode = int(told or b"-9")
        return self.returncode


class _Server:
    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self.starting = 0  # jobs that were asked for and have not begun
        self.jobs: list[Forked] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*python(confined=False), "autoresearch_lab.sandbox.fork_server", str(theirs.fileno()), *modules],
                cwd="/",
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # an interrupted lab ends it
            )

    def start(self, request: bytes, descriptors: Sequence[int]) -> Forked:
        """Raises OSError or ValueError: it cannot."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self._control, [request], [theirs.fileno(), *descriptors])
            ours.settimeout(START_SECONDS)
            return Forked(int(ours.recv(64)), ours)
        except BaseException:
            ours.close()
            raise

    @property
    def idle(self) -> bool:
        return not self.starting and all(job.returncode is not None for job in self.jobs)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_servers: dict[str, _Server] = {}  # by what they have imported, and the environment; the one used last is the last
_useless: set[str] = set()  # keys of those that were not ready in time
_lock = threading.Lock()  # of these, and of what a server has to do


def python(confined: bool) -> list[str]:
    """A command line up to the name of the module to run. Nothing is imported from the working folder, where an earlier
    job may have left anything, nor from the user's own packages below a confined job's home, which is that folder."""
    return [sys.executable, "-P", *(["-s"] if confined else []), "-m"]


def start(
    job_file: Path,
    modules: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes],
    pass_fds: Sequence[int],
) -> Forked | None:
    """A job of `child`, from a server that has imported these modules, and no other job's, in the job's environment;
    None where there can be none. What is different from one job to the next (`confine.OF_ONE_JOB`) no server has."""
    if not modules or not _possible() or sanitizer.PRELOAD in env or _DEVELOPERS & env.keys():
        return None
    lasting = {name: value for name, value in env.items() if name not in OF_ONE_JOB}
    key = json.dumps([os.getpid(), *modules, sorted(lasting.items())])
    if key in _useless:
        return None
    request = {"job": str(job_file), "environment": dict(env), "folder": str(cwd), "places": [1, 2, *pass_fds]}
    server, job = _server(key, modules, lasting), None
    try:
        job = server.start(json.dumps(request).encode(), [stdout.fileno(), stderr.fileno(), *pass_fds])
    except TimeoutError:
        _useless.add(key)
    except (OSError, ValueError):
        pass  # it is no more, or this one cannot be forked
    with _lock:
        server.starting -= 1
        server.jobs = [each for each in [*server.jobs, job] if each is not None and each.returncode is None]
        if (key in _useless or server.ended) and _servers.get(key) is server:
            del _servers[key]
            server.end()
    return job


@cache
def _possible() -> bool:
    """Whether this system lets a process wait for several others (Linux since 5.3; some containers refuse)."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _server(key: str, modules: Sequence[str], environment: Mapping[str, str]) -> _Server:
    with _lock:
        server = _servers.pop(key, None) or _Server(modules, environment)
        idle = [name for name, other in _servers.items() if other.idle]
        for name in idle[: max(0, len(_servers) + 1 - MOST_SERVERS)]:
            _servers.pop(name).end()
        _servers[key] = server
        server.starting += 1
        return server


@atexit.register
def end_servers() -> None:
    while _servers:
        _servers.popitem()[1].end()
