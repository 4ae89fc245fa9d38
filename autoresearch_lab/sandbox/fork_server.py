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
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from autoresearch_lab.sandbox import child

MOST_BYTES, MOST_DESCRIPTORS = 1 << 18, 8
_FREE = 512  # nobody's descriptors, from here on
_MOST_PAGES = 4096  # of address space, none of memory
_kept: list[mmap.mmap] = []


def serve(control: socket.socket) -> None:
    """Fork jobs until the lab closes its end.

    A request is a line of JSON (see `forked`), with the descriptors that the job gets and, first, a channel through
    which its process number is told and, when it has ended, its exit code.
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
            request = json.loads(message)
            process = os.fork()
            if process == 0:
                _become(request, descriptors[1:])
            with suppress(OSError):  # by the job itself, be it sooner
                os.setpgid(process, process)
            channel = socket.socket(fileno=descriptors[0])
            with suppress(OSError):
                channel.send(str(process).encode())
            for each in descriptors[1:]:
                os.close(each)
            jobs[os.pidfd_open(process)] = process, channel


def _become(request: Mapping[str, Any], descriptors: list[int]) -> NoReturn:
    """Take what the job's process would have been started with, and run it."""
    try:
        os.setpgid(0, 0)
        held = [fcntl.fcntl(each, fcntl.F_DUPFD, _FREE) for each in descriptors]
        os.closerange(3, _FREE)
        for each, place in zip(held, request["places"], strict=True):
            os.dup2(each, place)
        os.closerange(_FREE, _FREE + len(held))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        tempfile.tempdir = None
        sys.path[0] = request["folder"]
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()
        _move_addresses()
        child.run(request["job"])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _move_addresses() -> None:
    """What this process maps and allocates from here on lies elsewhere than in its siblings, as it would if it had
    been started: a kernel's speed, and its faults, may depend on that."""
    pages = 1 + int.from_bytes(os.urandom(2)) % _MOST_PAGES
    _kept.append(mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        with suppress(Exception):  # left to the job, which says so
            importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
