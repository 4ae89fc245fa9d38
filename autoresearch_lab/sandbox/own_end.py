"""Work in a process below its front door, which waits for it: work that ends before it is done is a failure, whatever
ended it. Native code that calls exit(0), or a program put in its place, would else look like a run that is whole.

Only Python's own library is imported, so that the process that waits stays small.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from autoresearch_lab.sandbox.supervisor import die_with_parent

_HANDED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_WATCHED = _HANDED_ON | {signal.SIGCHLD, signal.SIGTSTP}


def to_its_end(main: Callable[[], int]) -> int:
    """Run `main` in a child of this process; returns the exit code, in both of them.

    It is the child's where `main` returned. Elsewhere a line on stderr says how the child ended, and the exit code is
    1, or 128 + N of the signal N that ended it. Signals are handed on, each once: the child has a process group of its
    own, and ends with this process. Off Linux `main` runs here, and what ends it is not seen.
    """
    if sys.platform != "linux":
        return main()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        die_with_parent(parent)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # `stty tostop` would stop it when it prints
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = main()
        os.write(writer, b"done")
        return code
    os.close(writer)
    status = _wait(child)
    code = status if status >= 0 else 128 - status
    os.set_blocking(reader, False)  # what the child forked may hold the other end, and go on
    try:
        done = bool(os.read(reader, 4))
    except BlockingIOError:
        done = False
    if done:
        return code
    how = f"with exit code {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
    why = {
        -signal.SIGKILL: "; the system kills where memory runs out",
        0: "; native code may have called exit()",
    }.get(status, "")
    print(f"error: this run ended before it was done, {how}{why}", file=sys.stderr)
    return code or 1


def _wait(child: int) -> int:
    """How the child ended, as `waitstatus_to_exitcode` has it."""
    while True:
        number = signal.sigwait(_WATCHED)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif number == signal.SIGTSTP:
            os.kill(child, signal.SIGTSTP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)
        else:
            os.kill(child, number)
