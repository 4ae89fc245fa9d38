"""The unprivileged user that a job of root's becomes: nobody's number, owning nothing but the run folder.

Root's files are closed to it, and a limit on processes binds it, which never binds root. Where Python or the checkout
lie in a folder that is root's alone (/root), the job keeps one right of root's, to read whatever the system's own rules
forbid; what it reads then is up to Landlock.
"""

from __future__ import annotations

import ctypes
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

# Numbers that no system gives to a user; the second range is for containers that know the first 65,536 only.
_RANGES = ((1 << 30, 1 << 22), (61_184, 4_336))
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_PR_SET_DUMPABLE, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _AMBIENT_RAISE = 4, 28, 47, 2
# A change of user leaves the capabilities alone, and access(2), by which compilers choose their folder for temporary
# files, answers with them in mind.
_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
NAME = "kernel-lab-job"


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("process", ctypes.c_int)]


class _Capabilities(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def become(run_dir: Path, needed: Iterable[Path]) -> bool:
    """Turn this process of root's into an unprivileged one for good; returns whether it is one now.

    run_dir: becomes its own, with all that lies in it. needed: what it has to be able to read.

    Raises OSError where half of it was done and the rest is refused.
    """
    number = _number(run_dir)
    if number is None:
        return False
    keep, libc = None, ctypes.CDLL(None, use_errno=True)
    if any(_closed(path) for path in needed) or not _reachable(run_dir):
        held = _held()
        keep = next((one for one in (_DAC_READ_SEARCH, _DAC_OVERRIDE) if held >> one & 1), None)
        if keep is None or libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0) != 0:
            return False
    try:
        os.setgroups([])
        _give(run_dir, number)
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    except OSError:
        return False
    _keep_only(libc, keep)
    # A process that changed its user may not look at itself in /proc until it says so.
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    return True


def is_own() -> bool:
    """Whether this process runs as the user of its job alone."""
    return any(first <= os.getuid() < first + count for first, count in _RANGES)


def _number(run_dir: Path) -> int | None:
    """The same for every job in that folder, so that what one leaves to the next (compiled kernels) stays its own;
    None where this system knows none of the numbers."""
    for first, count in _RANGES:
        if all(_mapped(first, count, f"/proc/self/{kind}_map") for kind in ("uid", "gid")):
            return first + zlib.crc32(os.fsencode(run_dir)) % count
    return None


def _mapped(first: int, count: int, path: str) -> bool:
    """Whether this user namespace has those numbers."""
    try:
        lines = [[int(word) for word in line.split()] for line in Path(path).read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return False
    return any(inside <= first and first + count <= inside + size for inside, _, size in lines)


def _closed(path: Path) -> bool:
    """Whether other users than its owner cannot read that file or folder, or not get there."""
    try:
        path = path.resolve()
        mode = os.stat(path).st_mode
        wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
        return mode & wanted != wanted or not _reachable(path)
    except OSError:
        return False  # it is not there, and so not needed


def _reachable(path: Path) -> bool:
    """Whether every user may go through the folders that it lies in."""
    return all(os.stat(folder).st_mode & stat.S_IXOTH for folder in path.parents)


def _held() -> int:
    """This process's capabilities, a bit each."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return 0


def _give(folder: Path, number: int) -> None:
    """Make that user the owner of the folder and of what lies in it. A file with a second name may be someone else's
    elsewhere and stays as it is."""
    os.chown(folder, number, number)
    for entry in os.scandir(folder):
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            _give(Path(entry.path), number)
        elif found.st_uid != number and found.st_nlink == 1:
            os.chown(entry.path, number, number, follow_symlinks=False)


def _keep_only(libc: ctypes.CDLL, capability: int | None) -> None:
    """Give up every capability but that one, which programs started later have as well: compilers read, too.

    Raises OSError where the system does not take them back."""
    mask = 0 if capability is None else 1 << capability
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Capabilities * 2)(_Capabilities(mask, mask, mask), _Capabilities(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
    if capability is not None:
        libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability, 0, 0)
