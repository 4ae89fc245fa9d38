"""Is a job really cut off? It tries, before anything of a kernel is loaded: each forbidden act is done once.

What a system says of its own abilities is not believed: a Landlock that is there and enforces nothing looks like one
that works. What succeeds here ends up in the record, by name.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoresearch_lab.sandbox import seccomp

# Names of what may turn out not to be enforced; records and people read them.
WRITES, READS, PRIVATE = "writes outside the run folder", "reads", "reads of private files"
SIGNALS, NETWORK, MEMORY_OF_OTHERS = "signals to other processes", "network", "memory of other processes"
GROUP, USER, PROCESSES = "one process group", "a user of its own", "processes"
SYSTEM_V, POSIX = "System V shared memory", "POSIX shared memory"
ALWAYS = (WRITES, READS, PRIVATE, NETWORK, SIGNALS, MEMORY_OF_OTHERS, GROUP, SYSTEM_V, POSIX)
ADDRESS_SPACE, FILE_SIZE = "memory_bytes", "file_bytes"

_OPEN, _PRIVATE = "open", "private"


@contextmanager
def planted() -> Iterator[Path]:
    """A folder outside of any run folder in which a job may neither read nor write, although the rights of the files
    themselves would let it; for the lab's side."""
    folder = Path(tempfile.mkdtemp(prefix="kernel-lab-forbidden-"))
    try:
        folder.chmod(0o777)
        for name, mode in ((_OPEN, 0o644), (_PRIVATE, 0o600)):
            (folder / name).write_text("not for a job\n", encoding="ascii")
            (folder / name).chmod(mode)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def succeeded(
    folder: Path, run_dir: Path, *, as_root: bool, processes: bool, memory_bytes: int | None, file_bytes: int | None
) -> list[str]:
    """Try everything that a confined job may not do; returns the names of what it could.

    folder: see `planted`. as_root: the lab runs as root, and the job must not. processes: their number is limited.
    """
    parent = os.getppid()
    acts: dict[str, Callable[[], object]] = {
        WRITES: lambda: (folder / "written").write_text("x", encoding="ascii"),
        READS: (folder / _OPEN).read_text,
        PRIVATE: (folder / _PRIVATE).read_text,
        NETWORK: lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        SIGNALS: lambda: os.kill(parent, 0),
        MEMORY_OF_OTHERS: lambda: _look_into(parent),
        GROUP: _leave_the_group,
        SYSTEM_V: _share_by_system_v,
        POSIX: _share_by_posix,
    }
    if as_root:
        acts[USER] = _be_root
    if processes:
        acts[PROCESSES] = _start_one_too_many
    if memory_bytes is not None:
        acts[ADDRESS_SPACE] = lambda: _map(memory_bytes)
    if file_bytes is not None:
        acts[FILE_SIZE] = lambda: _grow(run_dir / "too-large", file_bytes + 1)
    return [name for name, act in acts.items() if _succeeds(act)]


def _succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except (OSError, MemoryError, ValueError, OverflowError):
        return False
    return True


def _be_root() -> None:
    if os.getuid() != 0:
        raise PermissionError


def _leave_the_group() -> None:
    """The filter answers success and does nothing."""
    os.setsid()
    if os.getsid(0) != os.getpid():
        raise PermissionError


def _look_into(process: int) -> None:
    """Another process's environment, through /proc and through the system call that reads its memory."""
    calls = seccomp.numbers()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        if calls is None or libc.syscall(calls.vm_readv, process, None, 0, None, 0, 0) != 0:
            raise


def _share_by_system_v() -> None:
    """Make a segment, and take it away again. The filter sends SIGSYS for it, or an error."""
    refused: list[int] = []
    before = signal.signal(signal.SIGSYS, lambda number, frame: refused.append(number))
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        private, rights, remove = 0, 0o600, 0
        segment = libc.shmget(private, mmap.PAGESIZE, rights)
        if refused or segment < 0:
            raise PermissionError
        libc.shmctl(segment, remove, None)
    finally:
        signal.signal(signal.SIGSYS, before)


def _share_by_posix() -> None:
    path = Path("/dev/shm", f"kernel-lab-{os.getpid()}-{os.urandom(4).hex()}")
    with open(path, "x"):
        path.unlink()


def _start_one_too_many() -> None:
    """With a limit of none the next process is one too many; root and a system without the limit start it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    try:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def _map(size: int) -> None:
    """Address space and no memory: what is only read is counted nowhere else."""
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()


def _grow(path: Path, size: int) -> None:
    try:
        with open(path, "wb") as file:
            file.truncate(size)
    finally:
        path.unlink(missing_ok=True)
