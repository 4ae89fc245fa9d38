"""What was tried in a workspace, as the ledger remembers it: a run that was killed goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autoresearch_data.hashing import NATIVE_SUFFIXES
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.workspace import Workspace
from autoresearch_lab.workspace.folder import KERNEL

EVENT = "proposal"
FOLDER = "attempts"  # in the workspace: every kernel that was tried


@dataclass(frozen=True)
class Budget:
    """attempts: kernels to be judged per workspace, earlier runs included. seconds: what the proposer may take for
    one of them, the judging apart."""

    attempts: int = 5
    seconds: float = 600.0


@dataclass(frozen=True)
class Attempt:
    """One kernel that was proposed, and what the lab said of it.

    kernel_sha256: of the kernel. verify, bench: verdicts, None where it did not come to that. ratio: time of the
    baseline / of the kernel, with its interval. reason: why the verdict is what it is.
    """

    number: int
    kernel_sha256: str
    verify: str | None
    bench: str | None
    ratio: float | None
    interval: tuple[float, float] | None
    reason: str

    @property
    def faster(self) -> bool:
        return self.bench == "FASTER"

    def plain(self) -> dict[str, Any]:
        return {**vars(self), "interval": list(self.interval) if self.interval else None}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Attempt:
        interval = plain["interval"]
        return cls(**{**plain, "interval": tuple(interval) if interval else None})


class Proposer(Protocol):
    """Changes a workspace's kernel."""

    def __call__(self, workspace: Workspace, attempts: list[Attempt], budget: Budget) -> str | None:
        """Write the next kernel into the workspace, knowing what came of the earlier ones. Returns why there is none,
        or None where there may be one."""


def history(workspace: Workspace, ledger: Ledger) -> list[Attempt]:
    """The attempts in this workspace so far, oldest first."""
    notes = (record for record in ledger.find(kind="note") if (record.settings or {}).get("event") == EVENT)
    return [Attempt.of(note.results) for note in notes if note.settings.get("workspace_id") == workspace.id]


def best(attempts: Iterable[Attempt]) -> Attempt | None:
    """Of those that are FASTER the one that is so by most for sure; None where none is."""
    faster = [attempt for attempt in attempts if attempt.faster and attempt.interval]
    return max(faster, key=lambda attempt: attempt.interval[0], default=None)


def keep(workspace: Workspace, number: int) -> None:
    """A copy of the kernel as it is now, for `restore`."""
    _copy(workspace.folder, _place(workspace, number))


def restore(workspace: Workspace, number: int) -> None:
    """The kernel of that attempt is the workspace's kernel again."""
    _copy(_place(workspace, number), workspace.folder)


def _place(workspace: Workspace, number: int) -> Path:
    return workspace.folder / FOLDER / str(number)


def _copy(source: Path, target: Path) -> None:
    """kernel.py and its native sources, and none besides."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (KERNEL, *(Path(KERNEL).with_suffix(suffix).name for suffix in NATIVE_SUFFIXES)):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)
