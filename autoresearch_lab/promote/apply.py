"""Promote and demote: the trainer's list of kernels changes, and the ledger says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoresearch_lab.ab.require import standing
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Decision, decide
from autoresearch_lab.lab import Lab
from autoresearch_lab.promote import registry, shipping
from autoresearch_lab.promote.artifacts import from_folder
from autoresearch_lab.promote.check import readiness
from autoresearch_lab.promote.install import install
from autoresearch_lab.promote.registry import Promotion
from autoresearch_lab.results.promote import DemoteResults, DemoteSettings, PromoteResults, PromoteSettings
from autoresearch_lab.results.record import DemoteRecord, PromoteRecord


def promote(
    target: Target,
    kernel: Kernel,
    lab: Lab,
    *,
    name: str | None = None,
    ship: bool = False,
    unattended: bool = False,
) -> PromoteRecord:
    """Promote one kernel; see `promote_all`."""
    return promote_all({target.name: kernel}, lab, name=name, ship=ship, unattended=unattended)[0]


def promote_all(
    kernels: Mapping[str, Kernel],
    lab: Lab,
    *,
    name: str | None = None,
    ship: bool = False,
    unattended: bool = False,
) -> list[PromoteRecord]:
    """Let the trainer of this machine use these kernels (target -> kernel) from now on; one record for each.

    Each needs an A/B that says PROMOTE for exactly its content, here, and none that says it is worse (see
    `evidence.decide`); several may rest on one joint A/B of exactly this set. They are used in the modes, eager or
    compiled, that were proven. A workspace's kernel is copied into the catalogue
    first, under `name`. With `ship` the entry goes into the committed list, with its evidence beside it. unattended: no
    person asked for these kernels; the record says so.

    Raises:
        LabError: evidence is missing (the message names the next command), or a file cannot be written.
    """
    catalog = load_catalog(lab.root)
    if name is not None and len(kernels) != 1:
        raise LabError("--name goes with a single kernel")
    evidence = {target: _evidence(target, kernels, catalog, lab) for target in kernels}
    path = lab.root.promoted_shared if ship else lab.root.promoted_local
    registry.read(path)  # a list that cannot be read is refused before anything is copied
    records = []
    for target, kernel in kernels.items():
        installed = kernel
        if kernel.path.parent != catalog[target].folder:
            installed = install(kernel, catalog[target], name, lab.root)
        records.append(_enlist(installed, kernel, evidence[target], path, lab, ship, unattended))
    return records


@dataclass(frozen=True)
class _Grounds:
    """What a promotion rests on: the A/Bs, and what of the confinement did not hold before them."""

    decision: Decision
    not_enforced: list[str]


def _evidence(target: str, kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], lab: Lab) -> _Grounds:
    found = readiness(find_target(dict(catalog), target), kernels[target], lab)
    if found.ready and found.decision is not None:
        return _Grounds(found.decision, found.not_enforced)
    joint = decide(kernels, catalog, lab) if len(kernels) > 1 else None
    if joint is not None and joint.verdict == "PROMOTE" and found.standing.missing is None:
        return _Grounds(joint, found.not_enforced)
    raise LabError(found.obstacle or "not ready")


def _enlist(
    kernel: Kernel,
    given: Kernel,
    grounds: _Grounds,
    path: Path,
    lab: Lab,
    ship: bool,
    unattended: bool,
) -> PromoteRecord:
    """Write the entry and its record; without the record the entry does not stay."""
    decision, evidence = grounds.decision, grounds.decision.record
    entry = Promotion(
        engine=lab.context.engine.name,
        device=lab.context.device["key"],
        target=kernel.target,
        kernel=kernel.name,
        sha256=kernel.sha256,
        modes=list(decision.modes),
        evidence=evidence.id,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    before = {file: registry.read(file) for file in (lab.root.promoted_local, lab.root.promoted_shared)}
    previous = registry.in_force(lab.root, *entry.key()[:2]).get(kernel.target)
    try:
        registry.put(path, entry)
        if ship:
            registry.take_out(lab.root.promoted_local, entry.key())  # it would overrule what is shipped
        record = lab.ledger.append(
            PromoteRecord,
            **lab.context.fields(),
            target=kernel.target,
            kernel=kernel.id,
            workloads=evidence.workloads,
            settings=PromoteSettings(
                list="shipped" if ship else "local",
                evidence=evidence.id,
                modes=decision.modes,
                dataset=evidence.settings.dataset,
                from_workspace=given.path != kernel.path,
                unattended=unattended,
                not_enforced=tuple(grounds.not_enforced),
            ),
            results=PromoteResults(file=lab.root.relative(path), previous=previous.id if previous else None),
        )
    except BaseException:
        for file, entries in before.items():
            registry.write(file, entries)
        raise
    if ship:
        shown = standing(find_target(load_catalog(lab.root), kernel.target), kernel, lab)
        shipped = [shown.verify, shown.bench, evidence, record]
        shipping.add(lab.root, lab.context.device["key"], shipped, [from_folder(lab.root)])
    return record


def demote(target: str, lab: Lab, *, ship: bool = False) -> DemoteRecord:
    """Back to the baseline for one target on this machine; with `ship`, in the committed list as well.

    Raises:
        LabError: unknown target, or nothing is promoted for it here.
    """
    engine = lab.context.engine
    baseline = find_target(load_catalog(lab.root), target).baseline(engine.framework, engine.device)
    key = (engine.name, lab.context.device["key"], target)
    used = registry.in_force(lab.root, *key[:2]).get(target)
    shared = next((entry for entry in registry.read(lab.root.promoted_shared) if entry.key() == key), None)
    if (used is None or used.sha256 == baseline.sha256) and not (ship and shared):
        raise LabError(f"no kernel is promoted for target {target} on this machine ({key[1]})")
    taken = used if used is not None and used.evidence is not None else shared
    registry.take_out(lab.root.promoted_local, key)
    if ship:
        registry.take_out(lab.root.promoted_shared, key)
    elif shared is not None:
        overrule: dict[str, Any] = {"kernel": baseline.name, "sha256": baseline.sha256}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        registry.put(
            lab.root.promoted_local, Promotion(engine=key[0], device=key[1], target=target, time=now, **overrule)
        )
    return lab.ledger.append(
        DemoteRecord,
        **lab.context.fields(),
        target=target,
        kernel=taken.id if taken else None,
        settings=DemoteSettings(list="shipped" if ship else "local"),
        results=DemoteResults(
            file=lab.root.relative(lab.root.promoted_shared if ship else lab.root.promoted_local), now=baseline.id
        ),
    )
