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
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record

WORKSPACE_PREFIX = "workspace:"


@dataclass(frozen=True)
class Today:
    """What records are compared with. workspaces: {name of a workspace's kernel: its newest folder}."""

    root: Root
    present: Present
    workspaces: dict[str, Path] = field(default_factory=dict)


def today(lab: Lab, targets: dict[str, Target], context: Context | None) -> Today:
    """Today's kernels and contracts, and the workloads captured last; those are not known without a context."""
    present = evidence.present(lab, targets, context) if context else Present(None, targets)
    opened = lookup.workspaces(lab.ledger)
    folders = {record.kernel.name: lab.root.path / record.settings.workspace for record in opened}
    return Today(lab.root, present, folders)


def stale_reasons(record: Record, now: Today) -> list[str]:
    """Why the record no longer counts here; empty where it still does."""
    reasons = []
    for target, kernel in judged_kernels(record).items():
        known = _contents_today(record, target, kernel.name, kernel.sha256, now)
        if not known:
            reasons.append("kernel file is gone")
        elif kernel.sha256 not in known:
            reasons.append("kernel changed")
    return list(dict.fromkeys([*reasons, *differences(record, now.present)]))


def _contents_today(record: Record, target: str, name: str, sha256: str, now: Today) -> set[str]:
    """Content hashes that a record's kernel may have today: by its name in the catalogue, or in its workspace.

    A workspace's kernel that was taken into the catalogue unchanged keeps its evidence: the content is what counts.
    """
    listed = now.present.targets[target].kernels if target in now.present.targets else ()
    found = {kernel.name: _hash(kernel.path) for kernel in listed if kernel.framework == framework_of(record)}
    hashes = {found.get(name)}
    if name.startswith(WORKSPACE_PREFIX):
        folder = now.workspaces.get(name, now.root.workspaces / name.removeprefix(WORKSPACE_PREFIX))
        hashes = {_hash(folder / "kernel.py"), *(known for known in found.values() if known == sha256)}
    return {known for known in hashes if known}


def _hash(path: Path) -> str | None:
    try:
        return kernel_hash(path)
    except OSError:
        return None
