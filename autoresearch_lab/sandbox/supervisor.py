"""A small process between the lab and what it starts: nothing that was started outlives it, whatever becomes of the
lab.

On Linux it adopts everything below it whose own parent has ended (PR_SET_CHILD_SUBREAPER). When the process that it
waits for ends, it says what was still running and kills that; when the lab dies, be it of SIGKILL, it kills all at
once. Elsewhere there is no such process, and what is started stands alone.

A job forks from it (`oversee`); commands run below it (`below`), as `python -I -S supervisor.py LAB COMMAND ...`, LAB
being the lab's process number. Only Python's own library is imported, so that this takes no time.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
# What the system sends where the lab is no more. The polite SIGTERM is handed on to a command; it ends a job.
ORPHANED = signal.SIGHUP
MOST_NAMES = 8
# Whatever is still there so long after it was killed is not killed by more signals (a broken driver, a dead disk).
GIVE_UP_SECONDS = 10.0
# How long a command may take to end by itself, once its lab is asked to end.
GRACE_SECONDS = 8.0
CANNOT_RUN, NOT_FOUND = 126, 127
_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, ORPHANED}


def below(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` below a supervisor; itself where this system has none."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the system send this process a signal when `parent`, whose child it is, ends. Where that has happened before
    the system was asked, this ends the process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def oversee(report: int) -> bool:
    """Fork: the job's process returns from this, the one in between never does.

    report: a descriptor at which the lab listens; one line of JSON is written to it when all have ended: {"status": how
    the job's process ended, as `waitstatus_to_exitcode` has it, "left": what was still running then, "adopted": what
    had ended before, after its own parent}. Returns whether there is a supervisor.
    """
    if sys.platform != "linux":
        return False
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.getpid()
    job = os.fork()
    if job == 0:
        die_with_parent(supervisor)
        os.close(report)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ORPHANED)
    _keep_only(report)
    try:
        if not _is_read(report):  # the lab was gone before the system was told to watch it
            _kill(job)
        status, adopted = _wait(job, grace=0.0)
        told = {"status": status, "left": _clear(), "adopted": adopted}
        os.write(report, json.dumps(told).encode() + b"\n")
    finally:
        os._exit(0)


def _keep_only(descriptor: int) -> None:
    """Close every other descriptor: the lab notices the end of a pipe only when nobody holds its other end."""
    os.closerange(0, descriptor)
    os.closerange(descriptor + 1, 4096)


def _is_read(descriptor: int) -> bool:
    watch = select.poll()
    watch.register(descriptor, 0)
    return not watch.poll(0)


def _wait(main: int, grace: float) -> tuple[int, list[str]]:
    """Wait until the process `main` has ended: (how, names of adopted ones that ended before it).

    grace: seconds that it has after SIGTERM, which is handed on to it; 0: it is killed at once.
    """
    adopted: list[str] = []
    deadline: float | None = None
    while True:
        for child in _ended():
            if child == main:
                return os.waitstatus_to_exitcode(os.waitpid(main, 0)[1]), adopted
            if len(adopted) < MOST_NAMES:
                adopted.append(_name(child))
            os.waitpid(child, 0)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        number = _next_signal(left)
        if number == ORPHANED or (number is None and deadline is not None) or (number != signal.SIGCHLD and not grace):
            _kill(main)
            deadline = None
        elif number in (signal.SIGTERM, signal.SIGINT):
            _signal(main, signal.SIGTERM)
            deadline = deadline or time.monotonic() + grace


def _next_signal(seconds: float | None) -> int | None:
    if seconds is None:
        return signal.sigwait(_WATCHED)
    got = signal.sigtimedwait(_WATCHED, seconds)
    return got.si_signo if got else None


def _ended() -> Iterator[int]:
    """Children that have ended and are not yet waited for."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        yield found.si_pid


def _clear() -> list[str]:
    """Kill all that is left below this process, also what is started meanwhile; returns what was found running."""
    left: dict[int, str] = {}
    end = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < end:
        for child in _ended():
            os.waitpid(child, 0)
        running = _children()
        if not running:
            break
        for child in running:
            left.setdefault(child, _name(child))
            _kill(child)
        time.sleep(0.001)
    return list(left.values())[:MOST_NAMES]


def _children() -> list[int]:
    """This process's children, ended ones included. Of a kernel without that list in /proc every process is asked."""
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == own]


def _parent(process: int) -> int | None:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _name(process: int) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() or "?"
    except OSError:
        return "?"


def _kill(process: int) -> None:
    _signal(process, signal.SIGKILL)


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def _run(lab: int, command: list[str]) -> NoReturn:
    """Run a command as it would run without this, and end as it ends. lab: the process that this is a child of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.getpid()
    main = os.fork()
    if main == 0:
        die_with_parent(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN)
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ORPHANED)
        if os.getppid() != lab:
            _kill(main)
        status, _ = _wait(main, GRACE_SECONDS)
        _clear()
    except BaseException:
        os._exit(1)
    if status >= 0:
        os._exit(status)
    # By a signal: this ends of the same one, and leaves no second dump of memory.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
    if -status not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
    os.kill(supervisor, -status)
    os._exit(128 - status)


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
