"""Is a kernel ready to be promoted, and if not: what is missing, and which command comes next?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.ab.require import Standing, standing
from autoresearch_lab.ab.suite import suite_verdict
from autoresearch_lab.catalog import Kernel, Target, find_target
from autoresearch_lab.lab import Lab
from autoresearch_lab.records import Record

WANTED = {"verify": "PASS", "bench": "FASTER", "ab": "PROMOTE"}


@dataclass(frozen=True)
class Readiness:
    """Where one kernel stands on its way into the trainer of this machine."""

    standing: Standing
    ab: Record | None

    @property
    def records(self) -> dict[str, Record | None]:
        return {"verify": self.standing.verify, "bench": self.standing.bench, "ab": self.ab}

    @property
    def ready(self) -> bool:
        return all(record is not None and record.verdict == WANTED[kind] for kind, record in self.records.items())

    @property
    def obstacle(self) -> str | None:
        """What stands in the way, in one line; None where nothing does."""
        if self.standing.missing:
            return self.standing.missing
        name = f"{self.standing.target.name}={self.standing.kernel.name}"
        if self.ab is None:
            return f"{name} has no A/B that counts here; run: {self.next_command}"
        if self.ab.verdict != "PROMOTE":
            reason = (self.ab.results or {}).get("reason", "no reason given")
            return f"{name}: the A/B says {self.ab.verdict} ({reason})"
        return None

    @property
    def next_command(self) -> str | None:
        """The command that takes this kernel one step further; None where a negative verdict stands in the way."""
        for kind, record in self.records.items():
            if record is None:
                return self.standing.command(kind)
            if record.verdict != WANTED[kind]:
                again = kind == "ab" and record.verdict == "UNDECIDED" or record.verdict == "AMBIGUOUS"
                if not again:
                    return None
                return self.standing.command(kind, *(["--again"] if kind == "ab" else []))
        return self.standing.command("promote")

    def plain(self) -> dict[str, Any]:
        target, kernel = self.standing.target, self.standing.kernel
        return {
            "target": target.name,
            "kernel": {"name": kernel.name, "sha256": kernel.sha256},
            "evidence": {
                kind: {"id": record.id, "verdict": record.verdict, "time": record.time} if record else None
                for kind, record in self.records.items()
            },
            "ready": self.ready,
            "obstacle": self.obstacle,
            "next": self.next_command,
        }


def readiness(target: Target, kernel: Kernel, lab: Lab) -> Readiness:
    """The evidence that counts for this kernel alone."""
    found = standing(target, kernel, lab)
    return Readiness(found, decisive_ab({target.name: kernel}, {target.name: target}, lab))


def decisive_ab(kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], lab: Lab) -> Record | None:
    """The A/B of exactly these kernels that decides about their promotion here; None where there is none.

    Of every preset, compiled or not, the newest speaks, and all together as `integration-suite` judges them: a gain
    with one does not promote what is worse with another. A/Bs that foreign load spoilt say nothing. The record returned
    is the newest of those with the common verdict.
    """
    found = abs_of(kernels, catalog, lab)
    calm = [record for record in found if not (record.results or {}).get("disturbed")]
    if not calm:
        return found[-1] if found else None
    newest = {_conditions(record): record for record in calm}
    verdict, _ = suite_verdict(newest)
    return [record for record in calm if record in newest.values() and record.verdict == verdict][-1]


def _conditions(record: Record) -> str:
    settings = record.settings or {}
    return f"{settings.get('preset', '')}{', compiled' if settings.get('compile') else ''}"


def ab_of(kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], lab: Lab, **settings: Any) -> Record | None:
    """The newest of `abs_of`, or None."""
    found = abs_of(kernels, catalog, lab, **settings)
    return found[-1] if found else None


def abs_of(kernels: Mapping[str, Kernel], catalog: Mapping[str, Target], lab: Lab, **settings: Any) -> list[Record]:
    """The A/Bs here whose candidate was exactly these kernels, under today's contracts, oldest first; `settings` has to
    hold in the record's. A joint A/B speaks for its set alone, not for the members.
    """
    contracts = {name: find_target(dict(catalog), name).contract_sha256 for name in kernels}
    wanted = {name: (kernel.sha256, contracts[name]) for name, kernel in kernels.items()}
    matching = []
    for record in lab.ledger.find(kind="ab", **lab.context.keys()):
        given = record.settings or {}
        try:
            tried = {name: (one["sha256"], one["contract_sha256"]) for name, one in given["candidate"].items()}
        except (KeyError, TypeError, AttributeError):
            continue  # of another layout
        if tried == wanted and all(given.get(key) == value for key, value in settings.items()):
            matching.append(record)
    return matching
