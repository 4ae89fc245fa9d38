"""What a calibration has found so far, from the records of its trials."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.calibrate.counting import PromiseCount, TrialCount, count, promises, wrong
from autoresearch_lab.calibrate.plan import CalibrationTrial, Plan
from autoresearch_lab.calibrate.work import ExtraWork
from autoresearch_lab.machine import Context
from autoresearch_lab.results.note import TableResults, TrialResults
from autoresearch_lab.results.record import TrialRecord


@dataclass(frozen=True)
class CalibrationReport:
    """What the trials say so far. work: the extra work of each target as measured. missing:
    trials not made yet. load: of the machine meanwhile. commits: of the project, at the time of the trials. wrong: the
    trials that went wrong, in words. made, seconds: of this call."""

    plan: Plan
    context: Context
    rows: list[TrialCount]
    promises: list[PromiseCount]
    missing: int
    work: dict[str, ExtraWork]
    load: dict[str, Any]
    commits: list[str]
    wrong: list[str]
    made: int = 0
    seconds: float = 0.0

    def recorded(self) -> TableResults:
        return TableResults(
            rows=[row.recorded() for row in self.rows],
            promises=[promise.recorded() for promise in self.promises],
            missing=self.missing,
            work={target: work.recorded() for target, work in self.work.items()},
            load=self.load,
            commits=self.commits,
            wrong=self.wrong,
            made=self.made,
            seconds=round(self.seconds, 1),
        )


def summarise(
    plan: Plan,
    context: Context,
    done: Mapping[CalibrationTrial, TrialRecord],
    work: dict[str, ExtraWork],
    made: int = 0,
    seconds: float = 0.0,
) -> CalibrationReport:
    """Count the trials that were made."""
    outcomes = [(trial, record.results) for trial, record in done.items()]
    rows = count(plan.groups(), outcomes)
    return CalibrationReport(
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


def _load(outcomes: list[TrialResults]) -> dict[str, Any]:
    """Share of the cores that other processes used, and the load average, over the trials that measured them."""
    shares = [results.foreign_load for results in outcomes if results.foreign_load is not None]
    averages = [results.load_average[0] for results in outcomes if results.load_average]
    return {
        "foreign": {"median": statistics.median(shares), "worst": max(shares)} if shares else None,
        "average": {"median": statistics.median(averages), "worst": max(averages)} if averages else None,
    }
