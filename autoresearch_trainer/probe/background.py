"""Work that goes on after a call: threads of native code, which Python knows nothing of, and processes.

A library's pool of threads sleeps between two calls, and is nobody's concern. A thread that runs, or wakes now and
then, takes the cores from whatever is measured next, and may change results that were handed back already.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

_TASKS = Path("/proc/self/task")
# A glance, and how many of them a pool has to fall asleep in; how long is watched whoever does not, at the end longer.
# OpenBLAS's threads wait for more work with open eyes: some 30 ms on an idle machine, several times that on a busy one.
_GLANCE_SECONDS, _MOST_GLANCES, _WATCH_SECONDS, _LAST_SECONDS = 0.002, 150, 0.03, 0.4
# Before the last look: to one that is short such waiting can seem like sleep.
_SETTLE_SECONDS = 0.15
# What counts as going on: drivers have threads that wake up once in a while.
_LEAST_NANOSECONDS, _LEAST_WAKES = 1_000_000, 3
# More threads than any library's pool has.
_MOST_THREADS = 64 + 8 * (os.cpu_count() or 1)


class _Ran(NamedTuple):
    """How long a thread has run, and how often it was given a processor."""

    nanoseconds: int
    wakes: int


class Background:
    """Remembers the threads and processes at its construction; `found` says what is new and at work."""

    def __init__(self) -> None:
        self._threads, self._children = set(_runs()), _children()
        self._told = False

    def found(self, last: bool = False) -> list[str]:
        """What goes on now that did not then, in words. Takes some milliseconds where all sleep. last: watch for
        longer, which finds a thread that only wakes now and then."""
        if sys.platform != "linux":
            return []
        found = []
        if new := _children() - self._children:
            found.append(f"{len(new)} processes of the kernel are still running")
        threads = len(_runs().keys() - self._threads)
        if threads > _MOST_THREADS:
            found.append(f"{threads} new threads are there")
        if self._told:
            return found
        asleep = not threads or any(not self._awake(_GLANCE_SECONDS, 0, 0) for _ in range(_MOST_GLANCES))
        if threads and last:
            time.sleep(_SETTLE_SECONDS)
        if threads and (last or not asleep):
            watched = _LAST_SECONDS if last else _WATCH_SECONDS
            if busy := self._awake(watched, _LEAST_NANOSECONDS, _LEAST_WAKES):
                self._told = True  # watching them takes long
                found.append(f"{busy} native threads go on while no call is made")
        return found

    def _awake(self, seconds: float, nanoseconds: int, wakes: int) -> int:
        """How many new threads run for longer than that within so many seconds, or at least as often; of those that are
        there before and after it."""
        before = _runs()
        time.sleep(seconds)
        now = _runs()
        count = 0
        for thread in now.keys() & before.keys() - self._threads:
            ran = now[thread].nanoseconds - before[thread].nanoseconds
            count += ran > nanoseconds or (wakes > 0 and now[thread].wakes - before[thread].wakes >= wakes)
        return count


def _runs() -> dict[int, _Ran]:
    """How this process's threads have run, but for the one that asks; Python's own are told elsewhere."""
    python = {thread.native_id for thread in threading.enumerate()} | {threading.get_native_id()}
    found = {}
    for name in _listed(_TASKS):
        if int(name) in python:
            continue
        try:
            words = (_TASKS / name / "schedstat").read_text(encoding="ascii").split()
            found[int(name)] = _Ran(int(words[0]), int(words[2]))
        except (OSError, ValueError, IndexError):
            pass  # it has ended, or this kernel does not count
    return found


def _children() -> set[int]:
    """Processes that this one has started and that still run; empty where this kernel does not list them."""
    found: set[int] = set()
    for name in _listed(_TASKS):
        try:
            found |= {int(word) for word in (_TASKS / name / "children").read_text(encoding="ascii").split()}
        except OSError:
            pass
    return {child for child in found if not _ended(child)}


def _ended(child: int) -> bool:
    """Whether nobody has asked yet how it ended: then it is listed still."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
