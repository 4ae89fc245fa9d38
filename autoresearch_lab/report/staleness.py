"""Does a record still speak of this machine and of the kernel that has its kernel's name today? If not: why not.

`evidence.differences` is the rule. The report adds what only it can ask, since it starts from records and not from a
kernel: what the kernel of that name, in the catalogue or in a workspace, holds today.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoresearch_common.hashing import kernel_hash
from autoresearch_lab import evidence, lookup
from autoresearch_lab.catalog import Target
from autoresearch_lab.evidence import Present, differences, framework_of, judged_kernels
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record

WORKSPACE_PREFIX = "workspace:"
FRAMEWORKS = ("torch", "mlx")


@dataclass(frozen=True)
class Today:
    """What records are compared with. ledger: where the workspaces were opened."""

    root: Root
    present: Present
    ledger: Ledger
    _contents: dict[tuple[str, str, str], dict[str, str | None]] = field(default_factory=dict)

    def hashes(self, target: str, name: str, framework: str | None) -> frozenset[str]:
        """Content hashes that a kernel may have today: by its name in the catalogue, or in its workspace. framework:
        None is any.

        A workspace's kernel that was taken into the catalogue unchanged keeps its evidence: the content is what counts.
        """
        found = [self.contents(target, name, one) for one in ([framework] if framework else FRAMEWORKS)]
        all_ = name.startswith(WORKSPACE_PREFIX)
        return frozenset(
            sha256 for contents in found for one, sha256 in contents.items() if sha256 and (all_ or one == name)
        )

    def contents(self, target: str, name: str, framework: str) -> dict[str, str | None]:
        """{kernel of the target: content hash of its file} in the catalogue, and of the one with that name in its
        workspace; None where the file is gone."""
        key = (target, name, framework)
        if key not in self._contents:
            listed = self.present.targets[target].kernels if target in self.present.targets else ()
            found = {kernel.name: _hash(kernel.path) for kernel in listed if kernel.framework == framework}
            if name.startswith(WORKSPACE_PREFIX):
                found[name] = _hash(self._folder(target, name) / "kernel.py")
            self._contents[key] = found
        return self._contents[key]

    def _folder(self, target: str, name: str) -> Path:
        """The newest that is there: another machine may have had its own elsewhere."""
        notes = lookup.workspaces_of(self.ledger, target, name)
        opened = (self.root.path / note.settings.workspace for note in notes)
        own = self.root.workspaces / name.removeprefix(WORKSPACE_PREFIX)
        return next((folder for folder in opened if folder.is_dir()), own)


def today(lab: Lab, targets: dict[str, Target], context: Context | None) -> Today:
    """Today's kernels and contracts, and the workloads captured last; those are not known without a context."""
    present = evidence.present(lab, targets, context) if context else Present(None, targets)
    return Today(lab.root, present, lab.ledger)


def stale_reasons(record: Record, now: Today) -> list[str]:
    """Why the record no longer counts here; empty where it still does."""
    reasons = []
    for target, kernel in judged_kernels(record).items():
        known = now.hashes(target, kernel.name, framework_of(record))
        if kernel.sha256 not in known:
            there = now.contents(target, kernel.name, framework_of(record)).get(kernel.name)
            reasons.append("kernel changed" if there else "kernel file is gone")
    return list(dict.fromkeys([*reasons, *differences(record, now.present)]))


def _hash(path: Path) -> str | None:
    try:
        return kernel_hash(path)
    except OSError:
        return None
