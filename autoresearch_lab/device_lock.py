"""One lock for each device of this machine: who measures there is alone, and who trains keeps those who measure away.

The lock is flock(2) on a file in the system's temporary folder, so it falls with its holder, however that ends, and
holds for all checkouts and users of the machine. Several may train at once; one may measure. The file tells who has the
lock: a line when one takes it, and one when it gives it back; whoever is alone begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from autoresearch_common.reading import parse_json
from autoresearch_lab.errors import LabError

# The folder of the locks, where it is to be another than the system's temporary one.
VARIABLE = "AUTORESEARCH_LOCKS"
MOST_BYTES = 1 << 16
_PREFIX = "autoresearch-device-"


@dataclass(frozen=True)
class Holder:
    """A process that measures or trains on a device. started: of the process, in seconds since the epoch, for numbers
    of processes are given again; since: UTC, when it took the lock; empty in the line with which it gives it back."""

    process: int
    started: float
    command: str
    since: str

    @property
    def lives(self) -> bool:
        return alive(self.process, self.started)

    def __str__(self) -> str:
        return f"{self.command} (process {self.process}, since {self.since})"


def alive(process: int, started: float) -> bool:
    """Whether the process of that number is still the one that was started then."""
    try:
        return abs(psutil.Process(process).create_time() - started) < 1.0
    except (psutil.Error, OverflowError):
        return False


def holders(device: str) -> list[Holder]:
    """Who has the device's lock now, as its file says; those that are gone left out."""
    try:
        lines = lock_file(device).read_bytes()[:MOST_BYTES].decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    newest = {holder.process: holder for line in lines if (holder := _holder(line)) is not None}
    return [holder for holder in newest.values() if holder.since and holder.lives]


def all_holders() -> dict[str, list[Holder]]:
    """Who has which device of this machine now: {device: holders}, those that nobody has left out."""
    names = [path.stem.removeprefix(_PREFIX) for path in sorted(_folder().glob(f"{_PREFIX}*.lock"))]
    return {name: found for name in names if (found := holders(name))}


def lock_file(device: str) -> Path:
    """Of a device such as "cpu"; of several GPUs, that which this process sees first."""
    visible = (os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    which = next(filter(None, visible), "").split(",")[0] if device == "cuda" else ""
    name = "".join(letter for letter in f"{device}{which}" if letter.isalnum())
    return _folder() / f"{_PREFIX}{name}.lock"


def _folder() -> Path:
    return Path(os.environ.get(VARIABLE) or tempfile.gettempdir())


@contextmanager
def hold(
    device: str, command: str, *, shared: bool = False, wait: bool = False, tell: Callable[[str], None] = print
) -> Iterator[None]:
    """Hold the device's lock as `command`, for training where `shared`, else for measuring.

    What a holder does itself, and what it has its children do, needs no lock of its own. wait: until it is free, which
    `tell` hears of once.

    Raises:
        LabError: another process holds it, and `wait` is False; or the lock's file cannot be used.
    """
    own = psutil.Process()
    if {holder.process for holder in holders(device)} & {own.pid, *(parent.pid for parent in own.parents())}:
        yield
        return
    path = lock_file(device)
    with _opened(path) as descriptor:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            others = ", ".join(map(str, holders(device))) or "another process"
            busy = f"the device {device} is in use by {others}"
            if not wait:
                raise LabError(f"{busy}; times taken beside it would mislead: wait with --wait, or end it") from None
            tell(f"{busy}; waiting for it")
            fcntl.flock(descriptor, kind)
        if not shared:
            os.ftruncate(descriptor, 0)  # what others left there
        holder = Holder(own.pid, own.create_time(), command, datetime.now(UTC).isoformat(timespec="seconds"))
        _tell(descriptor, holder)
        try:
            yield
        finally:
            _tell(descriptor, replace(holder, since=""))


def _tell(descriptor: int, holder: Holder) -> None:
    """Append its line; on a full disk the lock holds without."""
    with suppress(OSError):
        os.write(descriptor, json.dumps(asdict(holder)).encode("utf-8") + b"\n")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The lock's file, made where it is missing, for every user of the machine.

    Raises:
        LabError: it cannot be opened for writing.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)  # whatever the user's mask
    except OSError as error:
        raise LabError(f"cannot lock the device: {path}: {error.strerror}; ${VARIABLE} names another folder") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(line: str) -> Holder | None:
    """Of a line of the file, which anybody may have written."""
    try:
        found = parse_json(line, "the lock")
        return Holder(int(found["process"]), float(found["started"]), str(found["command"]), str(found["since"]))
    except (ValueError, TypeError, KeyError):
        return None
