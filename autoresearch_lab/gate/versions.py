"""The kernels of two versions, and which of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.paths import Root
from autoresearch_lab.repository import named_commit, unpack


@dataclass(frozen=True)
class ChangedKernel:
    """A kernel that head has with another content than base. base: None where base has none of that name, or one with
    another signature, so that there is nothing to compare with; `without` says which."""

    target: Target
    head: Kernel
    base: Kernel | None
    without: str = ""

    @property
    def name(self) -> str:
        return f"{self.target.name}={self.head.name}"


def catalog_of(reference: str, root: Root, folder: Path) -> dict[str, Target]:
    """The catalogue as that commit has it, laid out in `folder`.

    Raises:
        LabError: no such commit, or it has no catalogue that can be read.
    """
    commit = named_commit(root.path, reference)
    with files_at_hand(f"gate: cannot write to {folder}"):
        folder.mkdir()
    if commit is None or not unpack(root.path, commit, folder, "kernels"):
        raise LabError(f"gate: git knows no commit {reference!r} with kernels/ in {root.path}")
    return load_catalog(Root(folder))


def changed(
    base: Mapping[str, Target], head: Mapping[str, Target], engine: Engine
) -> tuple[list[ChangedKernel], dict[str, str]]:
    """(the kernels that differ and run on this engine, {others that differ: why they do not run here})."""
    found, left_out = [], {}
    for target in head.values():
        old = base.get(target.name)
        before = {(kernel.name, kernel.framework): kernel for kernel in old.kernels} if old else {}
        for kernel in target.kernels:
            known = before.get((kernel.name, kernel.framework))
            if known is not None and known.sha256 == kernel.sha256:
                continue
            if not kernel.runs_on(engine.framework, engine.device):
                left_out[f"{target.name}={kernel.name}"] = kernel.obstacle(engine.device)
                continue
            without = "" if known else "new: base has no such kernel"
            if known and old and old.contract.signature != target.contract.signature:
                known, without = None, f"base has another signature: {old.contract.signature}"
            found.append(ChangedKernel(target, kernel, known, without))
    return found, left_out
