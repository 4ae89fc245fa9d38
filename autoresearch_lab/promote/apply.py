"""Promote and demote: the trainer's list of kernels changes, and the ledger says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoresearch_lab.ab.require import Standing
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Decision, decide
from autoresearch_lab.lab import Lab
from autoresearch_lab.promote import registry, shipping, transaction
from autoresearch_lab.promote.check import readiness
from autoresearch_lab.promote.install import install
from autoresearch_lab.promote.registry import Promotion
from autoresearch_lab.promote.transaction import Change
from autoresearch_lab.results.base import Facts, KernelId, Typed
from autoresearch_lab.results.promote import DemoteResults, DemoteSettings, PromoteResults, PromoteSettings
from autoresearch_lab.results.record import AbRecord, DemoteRecord, PromoteRecord, Record


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
    """Let the trainer of this machine use these kernels (target -> kernel) from now on, all or none; one record for
    each.

    Each needs an A/B that says PROMOTE for exactly its content, here, and none that says it is worse (see
    `evidence.decide`); several may rest on one joint A/B of exactly this set. They are used in the modes, eager or
    compiled, that were proven. A workspace's kernel is copied into the catalogue, under `name`. With `ship` the entry
    goes into the committed list, with its evidence beside it. unattended: no person asked for these kernels; the record
    says so.

    Raises:
        LabFailure: evidence is missing or speaks against it; the message names the next command.
        LabError: a name that is not usable, or a file cannot be read or written.
    """
    if name is not None and len(kernels) != 1:
        raise LabError("--name goes with a single kernel")
    with transaction.alone(lab):
        catalog = load_catalog(lab.root)
        found = [_promotion(target, kernels, catalog, lab) for target in kernels]
        local, shared = registry.read(lab.root.promoted_local), registry.read(lab.root.promoted_shared)
        previous = registry.in_force(lab.root, lab.context.engine.name, lab.context.device["key"])
        if ship:
            shipping.check(lab.root, lab.context.device["key"])
        path = lab.root.promoted_shared if ship else lab.root.promoted_local
        files: dict[Path, str | bytes | None] = {}
        records = []
        for one in found:
            given = kernels[one.target]
            kernel = given.id
            if given.path.parent != catalog[one.target].folder:
                kernel, copies = install(given, catalog[one.target], name)
                files |= copies
            entry = one.entry(kernel, lab)
            # A local entry would overrule what is shipped.
            local = registry.without(local, entry.key()) + ([] if ship else [entry])
            shared = registry.without(shared, entry.key()) + [entry] if ship else shared
            before = previous.get(one.target)
            settings = PromoteSettings(
                list="shipped" if ship else "local",
                evidence=one.record.id,
                modes=one.decision.modes,
                dataset=one.record.settings.dataset,
                from_workspace=given.id != kernel,
                unattended=unattended,
                not_enforced=tuple(one.not_enforced),
            )
            results = PromoteResults(file=lab.root.relative(path), previous=before.id if before else None)
            records.append(_fields("promote", one.target, kernel, settings, results, lab, one.record.workloads))
        files |= registry.changes(lab.root, local, shared)
        evidence = [record for one in found for record in one.records] if ship else None
        return transaction.perform(Change(records, files, evidence), lab)  # type: ignore[return-value]


@dataclass(frozen=True)
class _Promotion:
    """A kernel that may be promoted, and what that rests on: the A/Bs, verification and bench, and what of the
    confinement did not hold before them."""

    target: str
    decision: Decision
    standing: Standing
    not_enforced: list[str]

    @property
    def record(self) -> AbRecord:
        return self.decision.record

    @property
    def records(self) -> list[Record]:
        return [record for record in (self.standing.verify, self.standing.bench, self.record) if record is not None]

    def entry(self, kernel: KernelId, lab: Lab) -> Promotion:
        return Promotion(
            engine=lab.context.engine.name,
            device=lab.context.device["key"],
            target=self.target,
            kernel=kernel.name,
            sha256=kernel.sha256,
            modes=list(self.decision.modes),
            evidence=self.record.id,
            time=_now(),
        )


def _promotion(target: str, kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], lab: Lab) -> _Promotion:
    """Raises LabFailure where the evidence does not allow it."""
    found = readiness(find_target(dict(catalog), target), kernels[target], lab)
    decision = found.decision if found.ready else None
    if decision is None and len(kernels) > 1 and found.standing.missing is None:
        joint = decide(kernels, catalog, lab)
        decision = joint if joint is not None and joint.verdict == "PROMOTE" else None
    if decision is None:
        raise LabFailure(found.obstacle or "not ready")
    return _Promotion(target, decision, found.standing, found.not_enforced)


def demote(target: str, lab: Lab, *, ship: bool = False) -> DemoteRecord:
    """Back to the baseline for one target on this machine; with `ship`, in the committed list as well.

    Raises:
        LabError: unknown target, or nothing is promoted for it here.
    """
    engine = lab.context.engine
    baseline = find_target(load_catalog(lab.root), target).baseline(engine.framework, engine.device)
    key = (engine.name, lab.context.device["key"], target)
    with transaction.alone(lab):
        local, shared = registry.read(lab.root.promoted_local), registry.read(lab.root.promoted_shared)
        used = registry.in_force(lab.root, *key[:2]).get(target)
        shipped = next((entry for entry in shared if entry.key() == key), None)
        if (used is None or used.sha256 == baseline.sha256) and not (ship and shipped):
            raise LabError(f"no kernel is promoted for target {target} on this machine ({key[1]})")
        taken = used if used is not None and used.evidence is not None else shipped
        local = registry.without(local, key)
        if shipped is not None and not ship:
            names = {"engine": key[0], "device": key[1], "target": target, "kernel": baseline.name}
            local.append(Promotion(**names, sha256=baseline.sha256, time=_now()))  # overrules it
        elif ship:
            shared = registry.without(shared, key)
        path = lab.root.promoted_shared if ship else lab.root.promoted_local
        settings = DemoteSettings(list="shipped" if ship else "local")
        results = DemoteResults(file=lab.root.relative(path), now=baseline.id)
        record = _fields("demote", target, taken.id if taken else None, settings, results, lab)
        return transaction.perform(Change([record], registry.changes(lab.root, local, shared)), lab)[0]  # type: ignore[return-value]


def _fields(
    kind: str, target: str, kernel: KernelId | None, settings: Typed, results: Typed, lab: Lab, workloads: Any = None
) -> Facts:
    """Of a record, as JSON."""
    parts = {"kernel": kernel, "settings": settings, "results": results, "workloads": workloads}
    plain = {name: part.plain() for name, part in parts.items() if part is not None}
    return {"kind": kind, **lab.context.fields(), "target": target, **plain}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
