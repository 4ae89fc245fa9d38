"""The workspaces in one folder, as orchestrate finds them. One that cannot be used is left aside in a line, and is no
reason to leave the others alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import LedgerCorrupt
from autoresearch_lab.workspace.folder import KERNEL, LOCK, Workspace, is_free, read_lock
from autoresearch_lab.workspace.opening import open_workspace


class Workspaces:
    """The workspaces of the lab's engine in `folder`. say: gets a line for each that is left aside, once."""

    def __init__(self, folder: Path, lab: Lab, say: Callable[[str], None]) -> None:
        self._folder, self._lab, self._say = folder, lab, say
        self._seen: dict[Path, Workspace | None] = {}

    def workspaces(self) -> list[Workspace]:
        """Those that can be used, by name. Hidden folders are drafts of `create`."""
        locks = sorted(self._folder.glob(f"[!.]*/{LOCK}"))
        found = [self._open(lock.parent) for lock in locks if (lock.parent / KERNEL).is_file()]
        return [workspace for workspace in found if workspace is not None]

    def place(self, name: str) -> Path:
        """Where the workspace called `name` is, or can be made: its folder, or `name`-2 and so on where that is taken
        by something else, a workspace of an earlier contract for instance."""
        for number in count(1):
            folder = self._folder / (name if number == 1 else f"{name}-{number}")
            if is_free(folder) or self._open(folder) is not None:
                return folder
        raise AssertionError

    def _open(self, folder: Path) -> Workspace | None:
        """None where it cannot be used, which is said, or is another engine's."""
        if folder not in self._seen:
            try:
                mine = read_lock(folder).engine == self._lab.engine.name
                self._seen[folder] = open_workspace(folder, self._lab) if mine else None
            except LedgerCorrupt:
                raise  # that concerns every workspace
            except LabError as error:
                self._seen[folder] = None
                self._say(f"left aside: {error}")
        return self._seen[folder]
