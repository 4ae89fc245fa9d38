"""Starts the lab's jobs from a process that has imported PyTorch already, by fork: some two seconds less for each.

`Warm` takes the place of `subprocess.Popen` in `sandbox.parent`. From the fork on a job is the one that the lab starts:
its own session, environment, folder and descriptors, and confined before anything of a candidate is loaded. What is
left out, importing PyTorch inside the confinement, is done by the tests that are marked `cold`, whose jobs start as in
the lab, and by every command that a test starts as a process of its own. Jobs of MLX, which is imported in no time,
start as in the lab, too; those that run Metal kernels find the run time of these compiled already.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from autoresearch_common import compiler

# What most jobs import; the second is what PyTorch itself imports at the first gradient.
PRELOADED = ("torch", "torch.fx.experimental.symbolic_shapes", "autoresearch_cuda.probe.calls")
COMMAND = ["-m", "autoresearch_lab.sandbox.child"]
# What differs from job to job; jobs read it, and nothing that is imported ahead does.
OF_ONE_JOB = {
    "TMPDIR", "HOME", "XDG_CACHE_HOME", "AUTORESEARCH_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR", "PYTEST_CURRENT_TEST",
}  # fmt: skip
MOST_SERVERS = 3  # of one process of the tests; each takes some 200 MB
FREE = 512  # nobody's descriptors, from here on
PR_SET_PDEATHSIG = 1


class Warm:
    """A job, started by fork where that is possible; has what `sandbox.parent` uses of `subprocess.Popen`."""

    cold = False  # whether jobs start as they do in the lab
    servers: dict[str, Server] = {}  # by what they have imported, and the environment that it was imported in

    def __new__(cls, command: list[str], **options: Any) -> Any:
        if _is_metal(command, options.get("env") or {}):
            _add_metal_runtime(Path(options["env"]["AUTORESEARCH_CACHE"]) / "metal_cpu")
        if cls.cold or not _modules(command):
            return subprocess.Popen(command, **options)
        return super().__new__(cls)

    def __init__(self, command: list[str], **options: Any) -> None:
        modules = _modules(command)
        lasting = {name: value for name, value in options["env"].items() if name not in OF_ONE_JOB}
        key = repr((modules, sorted(lasting.items())))
        server = self.servers.pop(key, None) or Server(lasting, modules)
        self.servers[key] = server  # the one used last is the last to go
        while len(self.servers) > MOST_SERVERS:
            self.servers.pop(next(iter(self.servers))).end()
        self.returncode: int | None = None
        self._channel, self.pid = server.start(command, options)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                told = self._channel.recv(64)
            except TimeoutError:
                raise subprocess.TimeoutExpired("job", timeout or 0.0) from None
            self._channel.close()
            self.returncode = int(told)
        return self.returncode


# What takes the place of the module in `sandbox.parent`.
SUBPROCESS = SimpleNamespace(Popen=Warm, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)


class Server:
    """A process that has imported modules in an environment, and forks jobs."""

    def __init__(self, environment: dict[str, str], modules: tuple[str, ...]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = str(Path(__file__).parent)
        code = f"import sys; sys.path.insert(0, {here!r}); from warm_start import serve; sys.path.remove({here!r}); "
        code += f"serve({theirs.fileno()}, {modules!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def start(self, command: list[str], options: dict[str, Any]) -> tuple[socket.socket, int]:
        """Fork a job: the channel that its exit code comes through, and its process number."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        places = list(options["pass_fds"])
        request = {
            "module": command[2],
            "arguments": command[3:],
            "environment": options["env"],
            "folder": str(options["cwd"]),
            "places": [1, 2, *places],
        }
        files = [theirs.fileno(), options["stdout"].fileno(), options["stderr"].fileno(), *places]
        socket.send_fds(self._control, [json.dumps(request).encode()], files)
        theirs.close()
        return ours, int(ours.recv(64))

    def end(self) -> None:
        self._control.close()
        self._process.wait()


def _job(command: list[str]) -> dict[str, Any]:
    """What the lab asks of a job; empty for other commands."""
    return json.loads(Path(command[3]).read_text(encoding="utf-8")) if command[1:3] == COMMAND else {}


def _modules(command: list[str]) -> tuple[str, ...]:
    """What is imported ahead for that job; empty where it is started as in the lab."""
    job = _job(command)
    if sys.platform != "linux" or job.get("engine_package") != "autoresearch_cuda":
        return ()
    triton = job["job"] == "compile" or job["args"].get("interpreted")
    return (*PRELOADED, "triton", "autoresearch_cuda.triton_kit") if triton else PRELOADED


def _is_metal(command: list[str], environment: dict[str, str]) -> bool:
    """Whether that job runs Metal kernels on the CPU, with a cache of its own, which is empty."""
    job = _job(command)
    metal = job.get("engine_package") == "autoresearch_mlx" and job["args"].get("interpreted")
    return bool(metal and environment.get("AUTORESEARCH_CACHE", "").startswith(job["run_dir"]))


def _add_metal_runtime(folder: Path) -> None:
    """Put in what every Metal kernel is linked with, which takes longer to compile than most kernels do."""
    folder.mkdir(parents=True, exist_ok=True)
    for built in _metal_runtime():
        shutil.copy2(built, folder / built.name)


@cache
def _metal_runtime() -> list[Path]:
    """The objects that this process's cache has after an empty kernel was built in both ways."""
    from autoresearch_mlx import metal_cpu

    for check in (False, True):
        kernel = metal_cpu.metal_kernel("nothing", [], ["y"], "y[0] = thread_position_in_grid.x;", check=check)
        kernel(inputs=[], output_shapes=[(1,)], output_dtypes=[np.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    return sorted((compiler.cache_root() / "metal_cpu").glob("*.o"))


def serve(descriptor: int, modules: tuple[str, ...]) -> NoReturn:
    """Import the modules, then fork a job for every request, until the tests' process closes its end."""
    control = socket.socket(fileno=descriptor)
    for module in ("autoresearch_lab.sandbox.limits", "autoresearch_lab.sandbox.protocol", *modules):
        importlib.import_module(module)
    minders: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 16)
        if not message:
            break
        minder = os.fork()
        if minder == 0:
            _mind(json.loads(message), descriptors)
        minders.add(minder)
        for each in descriptors:
            os.close(each)
        # Waited for, so that their time counts as the tests'.
        minders -= {each for each in minders if os.waitpid(each, os.WNOHANG)[0]}
    for each in minders:
        os.waitpid(each, 0)
    os._exit(0)


def _mind(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Fork the job, tell its number, wait for it, tell how it ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    reader, writer = os.pipe()
    job = os.fork()
    if job == 0:
        os.setsid()
        os.write(writer, b"1")
        _become(request, descriptors[1:])
    os.close(writer)
    os.read(reader, 1)  # from here on a signal to its group reaches it
    channel = socket.socket(fileno=descriptors[0])
    for each in descriptors[1:]:
        os.close(each)
    try:
        channel.send(str(job).encode())
        channel.send(str(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])).encode())
    finally:
        os._exit(0)


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Take what the job's process would have been started with, and run its module."""
    try:
        held = [fcntl.fcntl(each, fcntl.F_DUPFD, FREE) for each in descriptors]
        os.closerange(3, FREE)
        for each, place in zip(held, request["places"], strict=True):
            os.dup2(each, place)
        os.closerange(FREE, FREE + len(held))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        tempfile.tempdir = None
        sys.path[0] = request["folder"]
        sys.argv = [request["module"], *request["arguments"]]
        np.random.seed()  # a process that starts draws its own
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)
