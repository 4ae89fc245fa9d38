"""Does a record still speak of this machine, this kernel, this contract, these workloads? If not: why not, in words.

Evidence is keyed by kernel content, engine, device, software, contract, workloads and the baseline's content. `Now` is
what these are today; a record that differs in any of them is stale. What cannot be known today (no engine on this
machine, no profile) is not held against a record: it is left out of the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import kernel_hash
from autoresearch_lab.catalog import Target
from autoresearch_lab.evidence import framework_of, other_baseline
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record

WORKSPACE_PREFIX = "workspace:"


@dataclass(frozen=True)
class Now:
    """The present state that records are compared with."""

    root: Root
    targets: dict[str, Target]
    context: Context | None = None
    workloads: dict[str, frozenset[str]] = field(default_factory=dict)  # target -> hashes of the newest sets
    workspaces: dict[str, Path] = field(default_factory=dict)  # name of a workspace's kernel -> its newest folder


def now(root: Root, targets: dict[str, Target], ledger: Ledger, context: Context | None) -> Now:
    """The present state: today's kernels and contracts, and the newest captured workloads of each preset."""
    newest: dict[tuple[str, str], str] = {}
    if context is not None:
        for record in ledger.find(engine=context.engine.name, device_key=context.device["key"]):
            if record.kind not in ("profile", "capture"):
                continue
            preset = str((record.settings or {}).get("preset"))
            for target, described in (record.workloads or {}).items():
                if isinstance(described, dict) and described.get("sha256"):
                    newest[preset, target] = described["sha256"]
    hashes: dict[str, set[str]] = {}
    for (_, target), sha256 in newest.items():
        hashes.setdefault(target, set()).add(sha256)
    folders = {
        record.kernel.name: root.path / str(record.settings["workspace"])
        for record in ledger.find(kind="note")
        if record.kernel and (record.settings or {}).get("workspace")
    }
    return Now(root, targets, context, {target: frozenset(found) for target, found in hashes.items()}, folders)


@dataclass(frozen=True)
class Subject:
    """One kernel that a record speaks of, and what it was judged on."""

    target: str
    name: str
    sha256: str
    contract: str | None
    workloads: str | None


def subjects(record: Record) -> list[Subject]:
    """The record's own kernel; for an A/B of several kernels together all of them."""
    settings = record.settings or {}
    if record.kind == "ab" and isinstance(settings.get("candidate"), dict):
        return [
            Subject(
                target, str(kernel.get("name")), str(kernel.get("sha256")), kernel.get("contract_sha256"),
                kernel.get("workloads_sha256"),
            )
            for target, kernel in settings["candidate"].items()
            if isinstance(kernel, dict)
        ]  # fmt: skip
    workloads = (record.workloads or {}).get("sha256")
    if record.kernel is None or record.target is None:
        return []
    return [
        Subject(record.target, record.kernel.name, record.kernel.sha256, settings.get("contract_sha256"), workloads)
    ]


def stale_reasons(record: Record, present: Now) -> list[str]:
    """Why the record no longer counts here; empty where it still does."""
    found = subjects(record)
    reasons = [reason for subject in found for reason in _kernel(subject, record, present)]
    reasons += _machine(record, present)
    reasons += [reason for subject in found for reason in (*_contract(subject, present), *_inputs(subject, present))]
    listed = [present.targets[subject.target] for subject in found if subject.target in present.targets]
    reasons += ["baseline changed" for target in listed if other_baseline(record, target)]
    return list(dict.fromkeys(reasons))


def _kernel(subject: Subject, record: Record, present: Now) -> list[str]:
    today = kernels_today(subject, record, present)
    if not today:
        return ["kernel file is gone"]
    return [] if subject.sha256 in today else ["kernel changed"]


def kernels_today(subject: Subject, record: Record, present: Now) -> set[str]:
    """Content hashes that the subject's kernel may have today: by its name in the catalogue, or in its workspace.

    A workspace's kernel that was taken into the catalogue unchanged keeps its evidence: the content is what counts.
    """
    name, framework = subject.name, framework_of(record)
    listed = present.targets[subject.target].kernels if subject.target in present.targets else ()
    found = {kernel.name: _hash(kernel.path) for kernel in listed if kernel.framework == framework}
    if name.startswith(WORKSPACE_PREFIX):
        workspace = present.workspaces.get(name, present.root.workspaces / name.removeprefix(WORKSPACE_PREFIX))
        hashes = {_hash(workspace / "kernel.py")}
        hashes.update(sha256 for sha256 in found.values() if sha256 == subject.sha256)
    else:
        hashes = {found.get(name)}
    return {sha256 for sha256 in hashes if sha256}


def _hash(path: Path) -> str | None:
    try:
        return kernel_hash(path)
    except OSError:
        return None


def _machine(record: Record, present: Now) -> list[str]:
    if present.context is None:
        return []
    reasons = []
    if record.engine != present.context.engine.name:
        reasons.append(f"other engine ({record.engine or 'none'})")
    for what, then, today in (
        ("device", record.device or {}, present.context.device),
        ("software", record.software or {}, present.context.software),
    ):
        if then.get("key") != today.get("key"):
            reasons.append(f"other {what}{_difference(then, today)}")
    return reasons


def _difference(then: dict[str, Any], today: dict[str, Any]) -> str:
    """The first few entries that differ, as ` (torch 2.11 → 2.13, isa)`; values of structured entries are left out."""
    changed = [name for name in {**then, **today} if name != "key" and then.get(name) != today.get(name)]
    shown = []
    for name in changed[:3]:
        old, new = then.get(name), today.get(name)
        plain = not isinstance(old, dict | list) and not isinstance(new, dict | list)
        shown.append(f"{name} {_short(old)} → {_short(new)}" if plain else name)
    return f" ({', '.join(shown)}{', …' if len(changed) > 3 else ''})" if shown else ""


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def _contract(subject: Subject, present: Now) -> list[str]:
    if not subject.contract or subject.target not in present.targets:
        return []
    return [] if present.targets[subject.target].contract_sha256 == subject.contract else ["contract changed"]


def _inputs(subject: Subject, present: Now) -> list[str]:
    current = present.workloads.get(subject.target)
    if not subject.workloads or not current or subject.workloads in current:
        return []
    return ["other workloads than the newest profile's"]
