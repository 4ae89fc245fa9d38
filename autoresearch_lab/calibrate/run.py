"""The calibration: sets up what the trials need, executes those that the ledger does not hold yet, and counts.

Every trial is one note in the lab's ledger, written when it is done; killed at any time, the next call goes on behind
the last note. A trial counts for the device, the software and the conditions under which it was made.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from autoresearch_lab.ab.run import describe_dataset
from autoresearch_lab.calibrate import plants
from autoresearch_lab.calibrate.plan import AB, BENCH, HARMS, NULL, CalibrationTrial, Plan
from autoresearch_lab.calibrate.report import CalibrationReport, summarise
from autoresearch_lab.calibrate.separate_lab import SeparateLab
from autoresearch_lab.calibrate.trials import PlantedTarget, Trials
from autoresearch_lab.calibrate.work import PROCESSES, SECONDS, ExtraWork, find_work
from autoresearch_lab.catalog import Target, find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import newest_here, newest_profile
from autoresearch_lab.jobs import running
from autoresearch_lab.lab import Lab
from autoresearch_lab.profile import ensure_workloads, take_profile
from autoresearch_lab.promote.selection import baseline as baseline_selection
from autoresearch_lab.results.note import TableSettings, TrialResults, TrialSettings, WorkSeeds, WorkSettings
from autoresearch_lab.results.record import TableRecord, TrialRecord, WorkRecord
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report

# What a trial may take as long as none of its stage has been made (seconds).
EXPECTED = {"bench": 75.0, "verify": 60.0, "ab": 300.0}


@dataclass
class Calibration:
    """One plan on one machine. Raises LabError for a plan that cannot be carried out here."""

    plan: Plan
    lab: Lab
    on_progress: Report | None = None
    work_seconds: float = SECONDS
    work_processes: int = PROCESSES
    log: Callable[[str], None] = lambda text: None
    _subjects: dict[str, PlantedTarget] = field(default_factory=dict)

    def __post_init__(self) -> None:
        engine = self.lab.context.engine
        if engine.framework != "torch" or engine.device != "cpu":
            raise LabError(f"calibrate: the planted kernels are written for engine cpu, not {engine.name}")
        self.catalog = load_catalog(self.lab.root)
        self.schedule = self.plan.schedule()
        for trial in self.schedule:
            self._check(trial, find_target(self.catalog, trial.target))

    def _check(self, trial: CalibrationTrial, target: Target) -> None:
        plants.source_of(target.baseline(self.lab.context.engine.framework, self.lab.context.engine.device))
        if self._needs_work(trial) and not plants.can_be_slowed(target):
            raise LabError(f"calibrate: no extra work can be planted into {target.name}: its size is not in its arrays")
        if trial.group.plant in HARMS and not plants.can_be_harmed(target):
            raise LabError(f"calibrate: no harm can be planted into {target.name}: it needs one output and gradients")

    @staticmethod
    def _needs_work(trial: CalibrationTrial) -> bool:
        stage, plant = trial.group.stage, trial.group.plant
        return plant != NULL and stage in (BENCH, AB)

    def done(self) -> dict[CalibrationTrial, TrialRecord]:
        """The planned trials that the ledger holds, made on this device, with this software, under these conditions."""
        planned = set(self.schedule)
        found: dict[CalibrationTrial, TrialRecord] = {}
        for record in reversed(list(newest_here(self.lab, TrialRecord))):
            trial = CalibrationTrial.of(record.settings.trial)
            if trial in planned and record.settings.conditions == self.plan.conditions(trial.group.stage):
                found.setdefault(trial, record)
        return found

    def run(self, budget_seconds: float | None = None) -> CalibrationReport:
        """Make the trials that are missing, as long as the next one is expected to end within the budget; then count.

        Raises:
            LabError: no dataset, or an unknown preset.
            LabFailure: the work to be planted could not be measured. What was done before is in the ledger.
        """
        began = time.monotonic()
        made = 0

        def left() -> float:
            return float("inf") if budget_seconds is None else budget_seconds - (time.monotonic() - began)

        if left() > 0 and len(self.done()) < len(self.schedule):
            describe_dataset(self.lab.root, self.plan.dataset)
            made = self._make(left)
        report = self.report(made, time.monotonic() - began)
        if made:
            self.lab.ledger.append(
                TableRecord,
                **self.lab.context.fields(),
                settings=TableSettings(event="calibration", plan=self.plan.plain()),
                results=report.recorded(),
            )
        return report

    def _make(self, left: Callable[[], float]) -> int:
        separate_lab = SeparateLab(self.lab)
        separate_lab.know_ceilings(self.lab)
        selection = baseline_selection(self.catalog, self.lab.context.engine)
        trials = Trials(self.plan, separate_lab, selection, self._subjects, self.on_progress)
        known = self.done()
        taken: dict[str, list[float]] = {stage: [] for stage in EXPECTED}
        for trial, record in known.items():
            taken[trial.group.stage].append(record.results.seconds)

        def fits(stage: str) -> bool:
            return left() >= max(taken[stage], default=EXPECTED[stage])

        made = 0
        for place, trial in enumerate(self.schedule, start=1):
            stage = trial.group.stage
            if trial in known or not fits(stage):
                continue
            self._prepare(trial, separate_lab)
            if not fits(stage):
                continue
            results = trials.run(trial)
            self._record(trial, results)
            taken[stage].append(results.seconds)
            made += 1
            self.log(f"{place}/{len(self.schedule)} {trial.label}: {results.verdict}, {results.seconds:.0f} s")
        return made

    def _prepare(self, trial: CalibrationTrial, separate_lab: SeparateLab) -> None:
        """The target's captured calls; and the extra work where this trial needs it."""
        plan, target = self.plan, self.catalog[trial.target]
        subject = self._subjects.get(trial.target)
        if subject is None:
            captured = ensure_workloads(target, self.lab, plan.preset, plan.dataset, self.on_progress)
            subject = self._subjects[trial.target] = PlantedTarget(target, captured)
        if self._needs_work(trial) and subject.work is None:
            subject.work = self._work(target, subject.workloads, separate_lab)
        if self._needs_work(trial) and trial.group.stage == AB and subject.step_seconds is None:
            subject.step_seconds = self._step_seconds()

    def _work(self, target: Target, captured: WorkloadSet, separate_lab: SeparateLab) -> ExtraWork:
        known = self._known_work(target.name, captured.sha256)
        if known is not None:
            return known
        folder = separate_lab.root.runs / f"work-{target.name}-{secrets.token_hex(4)}"
        engine, seed = self.lab.context.engine, secrets.randbits(31)
        effects = self.plan.effects if target.name in self.plan.targets and self.plan.effect_trials else ()
        with running(folder):
            try:
                work = find_work(
                    target,
                    target.baseline(engine.framework, engine.device),
                    captured,
                    engine,
                    effects,
                    folder,
                    seed=seed,
                    seconds=self.work_seconds,
                    processes=self.work_processes,
                    on_progress=self.on_progress,
                )
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        self.lab.ledger.append(
            WorkRecord,
            **self.lab.context.fields(),
            target=target.name,
            workloads=captured.record_field(),
            seeds=WorkSeeds(work=seed),
            settings=WorkSettings(event="calibration-work", seconds=self.work_seconds, processes=self.work_processes),
            results=work.recorded(),
        )
        return work

    def _known_work(self, target: str, workloads: str | None) -> ExtraWork | None:
        """The newest extra work on record for these calls that covers the plan's effects."""
        for record in newest_here(self.lab, WorkRecord):
            same = workloads is None or (record.workloads is not None and record.workloads.sha256 == workloads)
            if record.target != target or not same:
                continue
            work = ExtraWork.of(record.results)
            needed = self.plan.effects if target in self.plan.targets and self.plan.effect_trials else ()
            if all(effect in work.measured for effect in needed):
                return work
        return None

    def _step_seconds(self) -> float:
        """Time of a training step of the preset on this machine, from its newest profile, which is made if need be."""
        known = newest_profile(self.lab, preset=self.plan.preset)
        if known is not None:
            return known.results.step_ms / 1e3
        profile = take_profile(
            self.lab,
            self.catalog,
            preset=self.plan.preset,
            dataset_folder=self.lab.root.data(self.plan.dataset),
            selection=baseline_selection(self.catalog, self.lab.context.engine),
            on_progress=self.on_progress,
        )
        return float(profile.step_ms) / 1e3

    def _record(self, trial: CalibrationTrial, results: TrialResults) -> None:
        # No kernel in the record's own field: a note on a planted kernel is evidence for nothing.
        self.lab.ledger.append(
            TrialRecord,
            **self.lab.context.fields(),
            target=trial.target,
            workloads=self._subjects[trial.target].workloads.record_field(),
            settings=TrialSettings(
                event="calibration-trial",
                trial=trial.recorded(),
                conditions=self.plan.conditions(trial.group.stage),
            ),
            results=results,
        )

    def report(self, made: int = 0, seconds: float = 0.0) -> CalibrationReport:
        """The table and the promises from what the ledger holds."""
        works = {name: self._known_work(name, None) for name in dict.fromkeys(self.plan.targets)}
        known = {name: work for name, work in works.items() if work is not None}
        return summarise(self.plan, self.lab.context, self.done(), known, made, seconds)
