"""Promote and demote: the trainer's list of kernels changes, and the ledger says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoresearch_lab.ab.require import standing
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry, shipping
from autoresearch_lab.promote.artifacts import from_folder
from autoresearch_lab.promote.check import decisive_ab, readiness
from autoresearch_lab.promote.install import install
from autoresearch_lab.promote.registry import Promotion
from autoresearch_lab.records import Record


def promote(
    target: Target,
    kernel: Kernel,
    context: Context,
    root: Root,
    ledger: Ledger,
    *,
    name: str | None = None,
    ship: bool = False,
) -> Record:
    """Promote one kernel; see `promote_all`."""
    return promote_all({target.name: kernel}, context, root, ledger, name=name, ship=ship)[0]


def promote_all(
    kernels: Mapping[str, Kernel],
    context: Context,
    root: Root,
    ledger: Ledger,
    *,
    name: str | None = None,
    ship: bool = False,
) -> list[Record]:
    """Let the trainer of this machine use these kernels (target -> kernel) from now on; one record for each.

    Each needs an A/B that says PROMOTE for exactly its content, here, and none with another preset that says it is
    worse; several may rest on one joint A/B of exactly this set. A workspace's kernel is copied into the catalogue
    first, under `name`. With `ship` the entry goes into the committed list, with its evidence beside it.

    Raises:
        LabError: evidence is missing (the message names the next command), or a file cannot be written.
    """
    catalog = load_catalog(root)
    if name is not None and len(kernels) != 1:
        raise LabError("--name goes with a single kernel")
    evidence = {target: _evidence(target, kernels, catalog, context, ledger) for target in kernels}
    path = root.promoted_shared if ship else root.promoted_local
    registry.read(path)  # a list that cannot be read is refused before anything is copied
    records = []
    for target, kernel in kernels.items():
        installed = kernel
        if kernel.path.parent != catalog[target].folder:
            installed = install(kernel, catalog[target], name, root)
        records.append(_enlist(installed, kernel, evidence[target], path, context, root, ledger, ship))
    return records


def _evidence(
    target: str, kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], context: Context, ledger: Ledger
) -> Record:
    """The A/B that a promotion of this kernel rests on."""
    found = readiness(find_target(dict(catalog), target), kernels[target], context, ledger)
    if found.ready and found.ab is not None:
        return found.ab
    joint = decisive_ab(kernels, catalog, context, ledger) if len(kernels) > 1 else None
    if joint is not None and joint.verdict == "PROMOTE" and found.standing.missing is None:
        return joint
    raise LabError(found.obstacle or "not ready")


def _enlist(
    kernel: Kernel,
    given: Kernel,
    evidence: Record,
    path: Path,
    context: Context,
    root: Root,
    ledger: Ledger,
    ship: bool,
) -> Record:
    """Write the entry and its record; without the record the entry does not stay."""
    entry = Promotion(
        engine=context.engine.name,
        device=context.device["key"],
        target=kernel.target,
        kernel=kernel.name,
        sha256=kernel.sha256,
        evidence=evidence.id,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    before = {file: registry.read(file) for file in (root.promoted_local, root.promoted_shared)}
    previous = registry.in_force(root, *entry.key()[:2]).get(kernel.target)
    try:
        registry.put(path, entry)
        if ship:
            registry.take_out(root.promoted_local, entry.key())  # it would overrule what is shipped
        record = ledger.append(
            "promote",
            **context.fields(),
            target=kernel.target,
            kernel={"name": kernel.name, "sha256": kernel.sha256},
            workloads=evidence.workloads,
            settings={
                "list": "shipped" if ship else "local",
                "evidence": evidence.id,
                "dataset": (evidence.settings or {}).get("dataset"),
                "from_workspace": given.path != kernel.path,
            },
            results={
                "file": root.relative(path),
                "previous": {"name": previous.kernel, "sha256": previous.sha256} if previous else None,
            },
        )
    except BaseException:
        for file, entries in before.items():
            registry.write(file, entries)
        raise
    if ship:
        shown = standing(find_target(load_catalog(root), kernel.target), kernel, context, ledger)
        given = [shown.verify, shown.bench, evidence, record]
        shipping.add(root, context.device["key"], given, [from_folder(root)])
    return record


def demote(target: str, context: Context, root: Root, ledger: Ledger, *, ship: bool = False) -> Record:
    """Back to the baseline for one target on this machine; with `ship`, in the committed list as well.

    Raises:
        LabError: unknown target, or nothing is promoted for it here.
    """
    engine = context.engine
    baseline = find_target(load_catalog(root), target).baseline(engine.framework, engine.device)
    key = (engine.name, context.device["key"], target)
    used = registry.in_force(root, *key[:2]).get(target)
    shared = next((entry for entry in registry.read(root.promoted_shared) if entry.key() == key), None)
    if (used is None or used.sha256 == baseline.sha256) and not (ship and shared):
        raise LabError(f"no kernel is promoted for target {target} on this machine ({key[1]})")
    taken = used if used is not None and used.evidence is not None else shared
    registry.take_out(root.promoted_local, key)
    if ship:
        registry.take_out(root.promoted_shared, key)
    elif shared is not None:
        overrule: dict[str, Any] = {"kernel": baseline.name, "sha256": baseline.sha256}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        registry.put(root.promoted_local, Promotion(engine=key[0], device=key[1], target=target, time=now, **overrule))
    return ledger.append(
        "demote",
        **context.fields(),
        target=target,
        kernel={"name": taken.kernel, "sha256": taken.sha256} if taken else None,
        settings={"list": "shipped" if ship else "local"},
        results={
            "file": root.relative(root.promoted_shared if ship else root.promoted_local),
            "now": {"name": baseline.name, "sha256": baseline.sha256},
        },
    )
