"""What lies in a workspace's folder, and the lock that holds the hashes of its fixed files.

kernel.py (kernel.cpp, ...)                    to be changed
contract.json  workloads.json  workloads.safetensors  baseline.py  oracle.py  README.md      fixed
lock.json                                      hashes of the fixed files; its own hash is in the ledger
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from autoresearch_common.files import remove_abandoned
from autoresearch_common.hashing import NATIVE_SUFFIXES, file_sha256
from autoresearch_common.reading import BadFile, first_error, read_json
from autoresearch_lab.catalog import Kernel, Target, syntax_nodes
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.workloads import WorkloadSet

KERNEL, LOCK, README = "kernel.py", "lock.json", "README.md"
CONTRACT, WORKLOADS, SAMPLES = "contract.json", "workloads.json", "workloads.safetensors"
BASELINE, ORACLE = "baseline.py", "oracle.py"
PREFIX = "workspace:"


class Lock(StrictModel):
    """The content of lock.json."""

    schema_: int = Field(1, alias="schema")
    id: str
    target: str
    engine: str
    started_from: str
    profile: str | None
    contract_sha256: str
    workloads_sha256: str
    files: dict[str, str]

    def text(self) -> str:
        return json.dumps(self.plain(), indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Workspace:
    """An opened workspace whose fixed files are as they were made."""

    folder: Path
    id: str
    target: Target
    kernel: Kernel
    workloads: WorkloadSet
    engine_name: str
    profile_id: str | None

    def require_engine(self, name: str, verb: str) -> None:
        """Raises LabError where `verb` was asked of another engine than the workspace's."""
        if self.engine_name != name:
            raise LabError(
                f"{verb}: {self.folder} is for engine {self.engine_name}; "
                f"use: kernel-lab --engine {self.engine_name} {verb}"
            )

    def plain(self) -> dict[str, object]:
        return {
            "workspace": str(self.folder),
            "id": self.id,
            "target": self.target.name,
            "engine": self.engine_name,
            "kernel": self.kernel.plain(),
            "workloads": self.workloads.record_field(self.profile_id),
        }


def draft_of(folder: Path) -> Path:
    """Where a workspace is made. One name, so that the next run removes what a killed one left."""
    return folder.parent / f".{folder.name}.draft"  # with_name refuses a folder without one, such as /


def settle(folder: Path) -> None:
    """Make the draft the workspace. An empty folder that is there already stays the same one, for somebody may stand in
    it; the lock comes last then, so that a part is never taken for the whole."""
    draft = draft_of(folder)
    if not folder.exists():
        draft.rename(folder)
        return
    for path in sorted(draft.iterdir(), key=lambda path: (path.name == LOCK, path.name)):
        path.rename(folder / path.name)
    draft.rmdir()


def finish(folder: Path) -> None:
    """Do the rest of a `settle` that was broken off: fixed files of the draft are in the folder by then.

    Raises:
        LabError: a file cannot be moved.
    """
    draft = draft_of(folder)
    try:
        names = Lock.model_validate(read_json(draft / LOCK)).files
    except (OSError, ValueError):  # there is none, or a part of one
        if (folder / LOCK).is_file():
            remove_abandoned([draft])
        return
    moved = [name for name in names if not (draft / name).exists()]
    if moved and all((folder / name).is_file() for name in moved):
        with files_at_hand(f"workspace: cannot finish {folder}"):
            settle(folder)


def is_free(folder: Path) -> bool:
    """Whether a workspace can be made there: nothing is, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def require_free(folder: Path) -> None:
    """Raises LabError where no workspace can be made there."""
    if not is_free(folder):
        what = "exists and is not empty" if folder.is_dir() else "is a file"
        raise LabError(f"workspace: {folder} {what}; name a new folder")


def read_lock(folder: Path) -> Lock:
    """The workspace's lock.

    Raises:
        LabError: the folder is no workspace, or the lock cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise LabError(f"workspace: {folder} is no folder")
    if not folder.is_dir():
        raise LabError(f"workspace: no folder {folder}; open one with: kernel-lab init --target T --workspace {folder}")
    path = folder / LOCK
    finish(folder)
    if not path.is_file():
        raise LabError(f"workspace: {folder} is not a workspace ({LOCK} is missing)")
    try:
        return Lock.model_validate(read_json(path))
    except ValidationError as error:
        raise LabError(f"workspace: {path} is damaged: {first_error(error)}; open a new workspace") from None
    except (OSError, BadFile) as error:
        raise LabError(f"workspace: {path} is damaged: {error}; open a new workspace") from None


def check_fixed(folder: Path, lock: Lock) -> None:
    """Refuse a workspace in which a fixed file differs from the lock.

    Raises:
        LabError: naming the first such file.
    """
    for name, wanted in sorted(lock.files.items()):
        path = folder / name
        if not path.is_file():
            raise LabError(f"workspace: {path} is missing; it is fixed: restore it, or open a new workspace")
        if file_sha256(path) != wanted:
            raise LabError(f"workspace: {path} was changed; only {KERNEL} may be: restore it, or open a new workspace")


def workspace_kernel(target: Target, folder: Path, framework: str, device: str) -> Kernel:
    """The workspace's own kernel, as a candidate.

    Raises:
        LabError: there is no kernel.py.
    """
    path = folder / KERNEL
    if not path.is_file():
        raise LabError(f"workspace: {folder} has no {KERNEL}; it has to define the function {target.name}")
    return Kernel(target.name, f"{PREFIX}{folder.name}", framework, (device,), "candidate", language(path), path)


def language(path: Path) -> str:
    """What a kernel file is written in, as target.toml says it: by its native source, else by what it imports."""
    native = [suffix for suffix in NATIVE_SUFFIXES if path.with_suffix(suffix).is_file()]
    if native:
        return native[0].removeprefix(".")
    nodes = syntax_nodes(path)
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return "triton" if any(name.split(".")[0] == "triton" for name in imported) else "python"
