"""What the control groups that this process is in (Linux; versions 1 and 2) allow it of the machine.

A limit may be set on any group from the process's own up to the root: a container's, a systemd scope, a job step of a
cluster. The tightest one holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def processors(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float | None:
    """How many processors' time the process may use; None without a limit."""
    limits = []
    for folder in _folders("cpu", mount, membership):
        words = _read(folder / "cpu.max").split() or [
            _read(folder / "cpu.cfs_quota_us"),
            _read(folder / "cpu.cfs_period_us"),
        ]
        quota, period = (_number(word) for word in words) if len(words) == 2 else (None, None)
        if quota is not None and period and quota > 0:  # "max", or -1 in version 1: none
            limits.append(quota / period)
    return min(limits, default=None)


def throttled_seconds(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float:
    """How long the process's groups have been kept from running so far because their time was used up, over all
    processors; of the group where that was longest."""
    found = [0.0]
    for folder in _folders("cpu", mount, membership):
        counted = _table(folder / "cpu.stat")
        found.append(counted.get("throttled_usec", 0) / 1e6 or counted.get("throttled_time", 0) / 1e9)
    return max(found)


def memory_left(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that the process may still take; None without a limit. Pages of the file cache count as used, but give
    way."""
    left = []
    for folder in _folders("memory", mount, membership):
        for limit_file, used_file, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(_read(folder / limit_file)), _number(_read(folder / used_file))
            if limit is not None and used is not None:
                left.append(limit - used + _table(folder / "memory.stat").get(cached, 0))
    return min(left, default=None)


def _folders(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """Of the groups that the process is in for `controller`, and of all groups around them. Within a container the path
    may be the host's, which is not to be seen here; then the mounted root is the container's own group."""
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            roots = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            roots = [mount / controller, mount / controllers]
        else:
            continue
        for root in roots:
            group = root / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_dir() and folder.is_relative_to(root))


def _read(path: Path) -> str:
    """The file's text; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _table(path: Path) -> dict[str, int]:
    """Of lines "name number"."""
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: value for row in rows if len(row) == 2 and (value := _number(row[1])) is not None}
