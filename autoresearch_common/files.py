"""Files that appear whole or not at all, and what processes that were killed left beside them.

What is being written carries a lock (flock) of its writer, which falls with the process, however that ends. So the next
one who writes there can tell what is left over from what is still being written, and takes the former away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# What the name of an unfinished file ends with: no editor and no user names a file so.
UNFINISHED = ".unfinished"
# A process may still be at work in a cache's folder that was used so recently.
_IN_USE_SECONDS = 3600.0


def regular_file(path: Path) -> Path:
    """The file that `path` leads to, through symbolic links; it need not exist.

    Raises:
        OSError: something else is there (a device, a pipe, a folder): a rename onto it would replace it.
    """
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and (target.is_symlink() or not target.is_file()):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return target


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a new file beside `path` that takes its place, flushed to the disk, when the block ends well. What killed
    writers left in that folder goes first.

    Readers see the old content or the new, never a part of it. A symbolic link stays one: the file that it leads to is
    replaced.

    Raises:
        OSError: the file cannot be written, or what is there is no regular file.
    """
    path = regular_file(path)
    remove_abandoned(path.parent.glob(f".*{UNFINISHED}"))
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with begun(new):
            yield new
            with open(new, "rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) as `replacing_file` does, in a folder that is made where it is missing."""
    regular_file(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as new:
        new.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def begun(path: Path, make: Callable[[], object] | None = None) -> Iterator[None]:
    """Make a file or folder that is in use while the block lasts: others will not take it for one that was left over,
    where the file system has locks. Before it is in use they may, and remove it: then it is made again.

    make: makes it, with what it needs around it; None for an empty file.
    """
    while True:
        make() if make else path.touch()
        with ExitStack() as stack:
            with suppress(OSError):  # a file system without locks, or it is gone
                stack.enter_context(_locked(path, wait=True))
            if path.exists():
                yield
                return


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove those files and folders that nobody has in use. What cannot be asked or removed stays."""
    for path in paths:
        with suppress(OSError), left_over(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def prune(paths: Iterable[Path], most_bytes: int) -> None:
    """Remove the least recently used of these files and folders beyond so many bytes, and the empty ones, but none that
    was just used. Of a folder its own time of change counts."""
    found = []
    for path in paths:
        with suppress(OSError):  # gone meanwhile
            about, folder = path.lstat(), path.is_dir() and not path.is_symlink()
            size = sum(one.lstat().st_size for one in path.rglob("*")) if folder else about.st_size
            used = about.st_mtime if folder else max(about.st_mtime, about.st_atime)
            found.append((time.time() - used, size, path))
    total = 0
    for age, size, path in sorted(found):
        total += size
        if (not size or total > most_bytes) and age > _IN_USE_SECONDS:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def left_over(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that nobody has in use.

    Raises:
        OSError: it is in use, or is not there, or the file system knows no locks.
    """
    with _locked(path) as descriptor:
        # Of two who remove one file the second may find a new one by that name, and has the old one's lock.
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise OSError(errno.EBUSY, "it is another by now", str(path))
        yield


@contextmanager
def _locked(path: Path, wait: bool = False) -> Iterator[int]:
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR  # NFS locks only what can be written
    descriptor = os.open(path, access | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)
