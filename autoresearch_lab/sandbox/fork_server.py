"""A process that has imported a framework, and forks a job for every request: importing PyTorch and its compiler takes
seconds, a fork none.

Started by `forked` as `python -m autoresearch_lab.sandbox.fork_server DESCRIPTOR MODULE ...`; not meant to be run by
hand. It loads nothing of a kernel, and it is not confined: jobs confine themselves after the fork, as they do after a
start of their own. It ends when the lab closes its end of the socket, or is no more.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from autoresearch_lab.sandbox import child

MOST_BYTES, MOST_DESCRIPTORS = 1 << 18, 8
_MOST_PAGES = 4096  # of address space, none of memory
_kept: list[mmap.mmap] = []


def serve(control: socket.socket) -> None:
    """Fork jobs until the lab closes its end.

    A request is a line of JSON (see `forked`), with the descriptors that the job gets and, first, a channel through
    which its process number is told and, when it has ended, its exit code. Where it cannot be forked, the channel is
    closed.
    """
    jobs: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), *jobs], [], [])
        for ended in jobs.keys() & ready:
            process, channel = jobs.pop(ended)
            os.close(ended)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with suppress(OSError), channel:  # the lab may be gone
                channel.send(str(code).encode())
        if control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, MOST_DESCRIPTORS)
            if not message:
                return
            channel, process = socket.socket(fileno=descriptors[0]), -1
            try:
                process = os.fork()
                if process == 0:
                    jobs.clear()
                    _become(json.loads(message), descriptors[1:])
                jobs[os.pidfd_open(process)] = process, channel
                with suppress(OSError):  # by the job itself, be it sooner
                    os.setpgid(process, process)
                with suppress(OSError):
                    channel.send(str(process).encode())
            except OSError:
                channel.close()
                if process > 0:
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
            for each in descriptors[1:]:
                os.close(each)


def _become(request: Mapping[str, Any], descriptors: list[int]) -> NoReturn:
    """Take what the job's process would have been started with, and run it."""
    try:
        os.setpgid(0, 0)
        _take(descriptors, request["places"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        tempfile.tempdir = None
        _draw_anew()
        _move_addresses()
        _forget_folders()
        child.run(request["job"])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _take(descriptors: list[int], places: list[int]) -> None:
    """Have these descriptors at those places, and none else but stdin."""
    beyond = max(places) + 1
    held = [fcntl.fcntl(each, fcntl.F_DUPFD, beyond) for each in descriptors]
    present = [int(name) for name in os.listdir("/proc/self/fd")]
    for each in present:
        if each and each not in held:
            with suppress(OSError):  # that of the list itself
                os.close(each)
    for each, place in zip(held, places, strict=True):
        os.dup2(each, place)
        os.close(each)


def _draw_anew() -> None:
    """Python's own generator does so by itself after a fork."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()


def _move_addresses() -> None:
    """What this process maps from here on (large arrays, a kernel's library) lies elsewhere than in its siblings, as it
    would if it had been started: a kernel's speed, and its faults, may depend on that."""
    pages = 1 + int.from_bytes(os.urandom(2)) % _MOST_PAGES
    _kept.append(mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0))


def _forget_folders() -> None:
    """Inductor asks for the folder of its precompiled headers when it is imported, and this job has another one."""
    codecache: Any = sys.modules.get("torch._inductor.codecache")
    if codecache is not None:
        headers = os.path.join(codecache.default_cache_dir(), os.path.basename(codecache._HEADER_DIR))
        codecache._HEADER_LOCK_DIR = codecache._HEADER_LOCK_DIR.replace(codecache._HEADER_DIR, headers)
        codecache._HEADER_DIR = headers


if __name__ == "__main__":
    for name in sys.argv[2:]:
        with suppress(Exception):  # left to the job, which says so
            importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
