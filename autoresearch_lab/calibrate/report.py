"""What a calibration has found so far, from the records of its trials."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.calibrate.counting import Promise, Row, count, promises, wrong
from autoresearch_lab.calibrate.plan import Plan, Trial
from autoresearch_lab.calibrate.work import Work
from autoresearch_lab.machine import Context
from autoresearch_lab.results.record import Record


@dataclass(frozen=True)
class Report:
    """What the trials say so far. work: the extra work of each target as measured. missing:
    trials not made yet. load: of the machine meanwhile. commits: of the project, at the time of the trials. wrong: the
    trials that went wrong, in words. made, seconds: of this call."""

    plan: Plan
    context: Context
    rows: list[Row]
    promises: list[Promise]
    missing: int
    work: dict[str, Work]
    load: dict[str, Any]
    commits: list[str]
    wrong: list[str]
    made: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        return {
            "rows": [row.plain() for row in self.rows],
            "promises": [promise.plain() for promise in self.promises],
            "missing": self.missing,
            "work": {target: work.plain() for target, work in self.work.items()},
            "load": self.load,
            "commits": self.commits,
            "wrong": self.wrong,
            "made": self.made,
            "seconds": round(self.seconds, 1),
        }


def summarise(
    plan: Plan,
    context: Context,
    done: Mapping[Trial, Record],
    work: dict[str, Work],
    made: int = 0,
    seconds: float = 0.0,
) -> Report:
    """Count the trials that were made."""
    outcomes = [(trial, record.results or {}) for trial, record in done.items()]
    rows = count(plan.groups(), outcomes)
    return Report(
        plan=plan,
        context=context,
        rows=rows,
        promises=promises(rows, outcomes),
        missing=len(plan.schedule()) - len(done),
        work=work,
        load=_load([results for _, results in outcomes]),
        commits=sorted({record.commit for record in done.values() if record.commit}),
        wrong=wrong(outcomes),
        made=made,
        seconds=seconds,
    )


def _load(outcomes: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of the cores that other processes used, and the load average, over the trials that measured them."""
    shares = [results["foreign_load"] for results in outcomes if results.get("foreign_load") is not None]
    averages = [results["load_average"][0] for results in outcomes if results.get("load_average")]
    return {
        "foreign": {"median": statistics.median(shares), "worst": max(shares)} if shares else None,
        "average": {"median": statistics.median(averages), "worst": max(averages)} if averages else None,
    }
