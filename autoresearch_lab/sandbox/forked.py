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
from pathlib import Path
from typing import IO, Protocol

from autoresearch_common import sanitizer
from autoresearch_lab.sandbox.confine import OF_ONE_JOB

MOST_SERVERS = 3  # some 300 MB each
START_SECONDS = 120.0  # of imports, on a slow disk


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
            except TimeoutError:
                raise subprocess.TimeoutExpired("job", timeout or 0.0) from None
            self._channel.close()
            self.returncode = int(told or b"-9")
        return self.returncode


class _Server:
    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "autoresearch_lab.sandbox.fork_server", str(theirs.fileno()), *modules],
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

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_servers: dict[str, _Server] = {}  # by what they have imported, and the environment; the one used last is the last
_lock = threading.Lock()


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
    if sys.platform != "linux" or not modules or sanitizer.PRELOAD in env:
        return None
    lasting = {name: value for name, value in env.items() if name not in OF_ONE_JOB}
    key = json.dumps([os.getpid(), *modules, sorted(lasting.items())])
    request = {"job": str(job_file), "environment": dict(env), "folder": str(cwd), "places": [1, 2, *pass_fds]}
    server = None
    try:
        server = _server(key, modules, lasting)
        return server.start(json.dumps(request).encode(), [stdout.fileno(), stderr.fileno(), *pass_fds])
    except (OSError, ValueError):
        with _lock:
            if server is not None and _servers.get(key) is server:
                del _servers[key]
                server.end()
        return None


def _server(key: str, modules: Sequence[str], environment: Mapping[str, str]) -> _Server:
    with _lock:
        server = _servers.pop(key, None)
        if server is None:
            server = _Server(modules, environment)
        _servers[key] = server
        while len(_servers) > MOST_SERVERS:
            _servers.pop(next(iter(_servers))).end()
        return server


@atexit.register
def end_servers() -> None:
    while _servers:
        _servers.popitem()[1].end()
