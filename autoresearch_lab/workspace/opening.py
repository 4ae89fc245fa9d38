"""Opens a workspace: only if everything in it but the kernel is what the lab put there."""

from __future__ import annotations

from pathlib import Path

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import workloads
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.lookup import workspace_note
from autoresearch_lab.workspace.folder import (
    LOCK,
    WORKLOADS,
    Workspace,
    check_fixed,
    read_lock,
    workspace_kernel,
)


def open_workspace(folder: Path, lab: Lab) -> Workspace:
    """The workspace in `folder`.

    Raises:
        LabError: it is not one, has no kernel.py, a fixed file was changed, the lock is not the one in the ledger, or
            the target's contract has changed since.
    """
    folder = Path(folder).expanduser().resolve()
    lock = read_lock(folder)
    _check_lock(folder, lock.id, lab.ledger)
    check_fixed(folder, lock)
    target = find_target(load_catalog(lab.root), lock.target)
    engine = ENGINES.get(lock.engine)
    if engine is None:
        raise LabError(f"workspace: {folder / LOCK} names an unknown engine '{lock.engine}'")
    kernel = workspace_kernel(target, folder, engine.framework, engine.device)
    if target.contract_sha256 != lock.contract_sha256:
        raise LabError(
            f"workspace: the contract or oracle of {target.name} has changed since {folder} was opened; open a new one"
        )
    found = workloads.load(folder / WORKLOADS, expected=lock.workloads_sha256)
    return Workspace(folder, lock.id, target, kernel, found, lock.engine, lock.profile)


def _check_lock(folder: Path, workspace_id: str, ledger: Ledger) -> None:
    """The ledger holds the hash of every lock that this lab wrote."""
    note = workspace_note(ledger, workspace_id)
    if note is None:
        raise LabError(f"workspace: the ledger {ledger.path} knows nothing of {folder / LOCK}; open a new workspace")
    if note.settings.lock_sha256 != file_sha256(folder / LOCK):
        raise LabError(f"workspace: {folder / LOCK} was changed; open a new workspace")
