"""Which kernel a failed step is laid at: one line that names it in the place of a traceback."""

import os
import posix
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from autoresearch_trainer.errors import EngineError, KernelFailed
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.ops import Ops


@contextmanager
def naming_kernels(ops: Ops) -> Iterator[None]:
    """Turn what a selected kernel raises, or what its result makes the trainer raise, into one line that names it. One
    that ends the process, in Python, fails like any other: a run that stopped early must not look like a whole one.

    Raises KernelFailed. The engine's own errors pass as they are, and so does whatever baseline kernels alone run into:
    that is this project's fault, and wants its traceback.
    """
    try:
        with _exits_raise():
            yield
    except EngineError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        selected = [file for file in ops.kernels.values() if file.name != ops.installed.baseline]
        culprit = _culprit(error, selected)
        # Without a place in a kernel an error of the system, such as a closed pipe, is not laid at one.
        if culprit is None and (not selected or isinstance(error, OSError)):
            raise
        raise KernelFailed(_line(error, culprit, selected)) from error


@contextmanager
def _exits_raise() -> Iterator[None]:
    """os._exit raises SystemExit in this process meanwhile, by each of its names; in those that it forks it ends them.
    A process that native code ends is not seen here, but by the front door (autoresearch_lab.sandbox.own_end)."""
    process, leave = os.getpid(), os._exit

    def raise_or_leave(status: int) -> NoReturn:
        if os.getpid() == process:
            raise SystemExit(status)
        leave(status)

    os._exit = posix._exit = raise_or_leave
    try:
        yield
    finally:
        os._exit = posix._exit = leave


def _line(error: BaseException, culprit: KernelFile | None, selected: Sequence[KernelFile]) -> str:
    said = next(iter(str(error).splitlines()), "")
    if culprit is not None and isinstance(error, NotImplementedError):
        return f"kernel {_named(culprit)} declined: {said}"
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if culprit is not None:
        return f"kernel {_named(culprit)} failed: {what}"
    # A result of the wrong shape or type is noticed by whoever takes it.
    many = "s" if len(selected) > 1 else ""
    return f"training with the kernel{many} {', '.join(map(_named, selected))} failed: {what}"


def _named(file: KernelFile) -> str:
    return f"{file.target}={file.name}"


def _culprit(error: BaseException, selected: Sequence[KernelFile]) -> KernelFile | None:
    """The selected kernel in which the error came up, nearest to where it did."""
    by_path = {file.path: file for file in selected}
    link: BaseException | None = error
    while link is not None:
        places = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(link.__traceback__)]
        for place in reversed(places):
            if place in by_path:
                return by_path[place]
        # What torch.compile cannot trace has no frame of its own: the place is in the text.
        text = str(link)
        if innermost := max(by_path, key=text.rfind, default=None):
            if innermost in text:
                return by_path[innermost]
        link = link.__cause__ or link.__context__
    return None
