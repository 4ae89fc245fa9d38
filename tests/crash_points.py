"""Ends an action at each of its writes in turn.

The seam is the interpreter's own audit: whatever opens a file for writing, renames, removes, or makes a folder is told
before it happens, by whichever code. So a write that is added later is enumerated without being named here.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
TAKES_SPACE = {"open", "os.mkdir", "os.link", "os.symlink"}
EXIT_CODE = 9


class Killed(BaseException):
    """Raised at a write, and at every later one: a process that is gone writes nothing, whatever its handlers try."""


class CrashPoints:
    """how: `kill` (see Killed), `interrupt` (Ctrl-C, once), `full` (a disk without space from then on, from which
    files can still be removed), `exit` (the process really ends)."""

    Killed = Killed

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._at, self._how, self._seen = 0, "", 0
        sys.addaudithook(self._hear)  # for good; it costs a comparison while nothing is watched

    def each(
        self, begin: Callable[[int], Path], action: Callable[[Path], Any], check: Callable[[Path, int], Any], how: str,
        every: int = 1,
    ) -> int:  # fmt: skip
        """For every number of writes: `begin` makes a folder, `action` is ended there before that write, `check` looks
        at what is left. Returns how many writes it is when nothing ends it."""
        number = 0
        while True:
            folder = begin(number)
            if how == "exit":
                ended = self._in_child(folder, action, number)
            else:
                with self.armed(folder, number, how):
                    ended = _ends(action, folder, how)
                ended = ended or self._seen > number  # a write that failed may have been done without
            if not ended:
                return number
            check(folder, number)
            number += every

    @contextmanager
    def armed(self, folder: Path, at: int, how: str) -> Iterator[None]:
        self._folder, self._at, self._how, self._seen = folder.resolve(), at, how, 0
        try:
            yield
        finally:
            self._folder = None

    def _in_child(self, folder: Path, action: Callable[[Path], Any], at: int) -> bool:
        child = os.fork()
        if child == 0:
            try:
                with self.armed(folder, at, "exit"):
                    action(folder)
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, EXIT_CODE)
        return code == EXIT_CODE

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._folder is None or not (event == "open" or event in NAMES) or not self._is_write(event, args):
            return
        self._seen += 1
        if self._seen <= self._at:
            return
        if self._how == "exit":
            os._exit(EXIT_CODE)
        if self._how == "kill":
            raise Killed
        if self._how == "interrupt" and self._seen == self._at + 1:
            raise KeyboardInterrupt
        if self._how == "full" and event in TAKES_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    def _is_write(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return False
        if not isinstance(args[0], str | bytes | os.PathLike):
            return False
        path = Path(os.fsdecode(args[0]))
        if path.suffix == ".lock":
            return False
        return not path.is_absolute() or path.is_relative_to(self._folder or path)  # relative: within a rmtree


def _ends(action: Callable[[Path], Any], folder: Path, how: str) -> bool:
    """Whether the action was ended by what was raised at a write."""
    try:
        action(folder)
    except Killed:
        return True
    except KeyboardInterrupt:
        return how == "interrupt"
    except Exception as error:
        if how != "full" or os.strerror(errno.ENOSPC) not in str(error):
            raise
        return True
    return False
