"""What was tried in a workspace, as the ledger remembers it: a run that was killed goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autoresearch_common.hashing import NATIVE_SUFFIXES, kernel_hash
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.lookup import attempts_in
from autoresearch_lab.results.note import AttemptResults
from autoresearch_lab.workspace import Workspace
from autoresearch_lab.workspace.folder import BASELINE, KERNEL

FOLDER = "attempts"  # in the workspace: every kernel that was tried


@dataclass(frozen=True)
class Budget:
    """attempts: kernels to be judged per workspace, earlier runs included. seconds: what the proposer may take for
    one of them, the judging apart."""

    attempts: int = 5
    seconds: float = 600.0


class Attempt(AttemptResults):
    """One kernel that was proposed, and what the lab said of it."""

    @property
    def faster(self) -> bool:
        return self.bench == "FASTER"


class Proposer(Protocol):
    """Changes a workspace's kernel."""

    def __call__(self, workspace: Workspace, attempts: list[Attempt], budget: Budget) -> str | None:
        """Write the next kernel into the workspace, knowing what came of the earlier ones. Returns None, or a reason to
        stop here."""


def history(workspace: Workspace, ledger: Ledger) -> list[Attempt]:
    """The attempts in this workspace so far, oldest first."""
    return [Attempt(**dict(note.results)) for note in attempts_in(ledger, workspace.id)]


def best(attempts: Iterable[Attempt]) -> Attempt | None:
    """Of those that are FASTER the one that is so by most for sure; None where none is."""
    faster = [(attempt.interval[0], attempt) for attempt in attempts if attempt.faster and attempt.interval]
    return max(faster, key=lambda pair: pair[0], default=(0.0, None))[1]


def keep(workspace: Workspace, number: int) -> None:
    """A copy of the kernel as it is now, for `restore`."""
    _copy(workspace.folder, _place(workspace, number))


def restore(workspace: Workspace, attempt: Attempt) -> None:
    """The kernel of that attempt is the workspace's kernel again.

    Raises:
        LabFailure: its copy is gone or is not what was judged.
    """
    source = _place(workspace, attempt.number)
    if not (source / KERNEL).is_file() or kernel_hash(source / KERNEL) != attempt.kernel_sha256:
        raise LabFailure(f"{source} is not the kernel that was judged as attempt {attempt.number}")
    _copy(source, workspace.folder)


def start_over(workspace: Workspace) -> None:
    """The workspace's kernel is the baseline."""
    for path in _files(workspace.folder):
        path.unlink(missing_ok=True)
    shutil.copyfile(workspace.folder / BASELINE, workspace.folder / KERNEL)


def _place(workspace: Workspace, number: int) -> Path:
    return workspace.folder / FOLDER / str(number)


def _files(folder: Path) -> list[Path]:
    """Where a kernel's files lie, whether they are there or not."""
    return [folder / KERNEL, *((folder / KERNEL).with_suffix(suffix) for suffix in NATIVE_SUFFIXES)]


def _copy(source: Path, target: Path) -> None:
    """kernel.py and its native sources, and none besides."""
    target.mkdir(parents=True, exist_ok=True)
    for old, new in zip(_files(source), _files(target), strict=True):
        if old.is_file():
            shutil.copyfile(old, new)
        else:
            new.unlink(missing_ok=True)
