"""One trial: plant the kernel, hand it to the stage that is tried, and say what that answered."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.ab.run import ab
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.bench.run import bench
from autoresearch_lab.calibrate import plants
from autoresearch_lab.calibrate.plan import AB, BENCH, FASTER, GRADIENT, NULL, SLOWER, CalibrationTrial, Plan
from autoresearch_lab.calibrate.separate_lab import SeparateLab
from autoresearch_lab.calibrate.work import ExtraWork
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.jobs import running
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.results.note import TrialResults
from autoresearch_lab.results.record import AbRecord, BenchRecord, VerifyRecord
from autoresearch_lab.verify.run import verify
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report

StageRecord = VerifyRecord | BenchRecord | AbRecord
FAILED = "FAILED"
# Seeds of an A/B's trainings and races: no two trials share one.
SEEDS_APART = 10_000


@dataclass
class PlantedTarget:
    """A target that trials use: its captured calls, the extra work fitted to it, and the training step's time (s)."""

    target: Target
    workloads: WorkloadSet
    work: ExtraWork | None = None
    step_seconds: float | None = None


@dataclass
class Trials:
    """Everything that trials need. `subjects` by target."""

    plan: Plan
    separate_lab: SeparateLab
    baseline: Selection
    subjects: Mapping[str, PlantedTarget] = field(default_factory=dict)
    on_progress: Report | None = None

    def run(self, trial: CalibrationTrial) -> TrialResults:
        """Execute a trial and return its results: "verdict" (FAILED where the stage gave none), "reason", "seconds",
        and what the stage found. The records of the stage itself are in the separate_lab's ledger.

        Raises:
            LabError: the stage refused the request (no dataset, say): no trial was made.
        """
        subject = self.subjects[trial.target]
        folder = self.separate_lab.root.runs / f"trial-{secrets.token_hex(4)}"
        began = time.monotonic()
        with running(folder):
            try:
                if trial.group.stage == BENCH:
                    record = self._bench(trial, subject, folder)
                elif trial.group.stage == AB:
                    record = self._ab(trial, subject)
                else:
                    record = self._verify(trial, subject, folder)
            except LabFailure as error:
                # A stage that gives up has used its time and decided nothing; that belongs into the table.
                return TrialResults(verdict=FAILED, reason=str(error), seconds=round(time.monotonic() - began, 2))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return _findings(record, round(time.monotonic() - began, 2))

    def _bench(self, trial: CalibrationTrial, subject: PlantedTarget, folder: Path) -> StageRecord:
        """Nulls and slower candidates meet the baseline as it is; a faster one is the baseline that meets a slowed
        copy of itself."""
        own = subject.target.baseline(*self._where)
        candidate, rival = self._null(trial, own), own
        if trial.group.plant == FASTER:
            rival = self._slowed(trial, own, subject, trial.group.effect)
        elif trial.group.plant == SLOWER:
            candidate = self._slowed(trial, own, subject, trial.group.effect)
        target = plants.against(subject.target, rival, library=self.plan.library)
        self.separate_lab.vouch(candidate, target, subject.workloads, "verify")
        return bench(
            candidate,
            target,
            subject.workloads,
            self.separate_lab,
            budget_seconds=self.plan.bench_seconds,
            run_dir=folder,
            rule=self.plan.rule,
            compiled_arm=False,  # a planted loop is not what a compiler would leave of it
            on_progress=self._tell(trial),
        )

    def _verify(self, trial: CalibrationTrial, subject: PlantedTarget, folder: Path) -> StageRecord:
        own = subject.target.baseline(*self._where)
        candidate = self._null(trial, own) if trial.group.plant == NULL else self._harmful(trial, own)
        return verify(
            candidate,
            subject.target,
            subject.workloads,
            self.separate_lab,
            run_dir=folder,
            on_progress=self._tell(trial),
        )

    def _ab(self, trial: CalibrationTrial, subject: PlantedTarget) -> StageRecord:
        """Harm has to come with a gain, or the speed gate would refuse it before anything else looks; so the other arm
        carries extra work, a share of the training step. The same without harm shows that this gain is seen."""
        own = subject.target.baseline(*self._where)
        plant, rival = trial.group.plant, self.baseline
        candidate = self._null(trial, own) if plant in (NULL, FASTER) else self._harmful(trial, own)
        if plant != NULL:
            assert subject.work is not None and subject.step_seconds is not None
            share = trial.group.effect * subject.step_seconds / subject.work.step_seconds
            rival = rival.with_kernels({trial.target: self._slowed(trial, own, subject, share)})
        self.separate_lab.vouch(candidate, subject.target, subject.workloads, "verify", "bench")
        plan, default = self.plan, Settings()
        settings = Settings(
            race_seconds=plan.race_seconds,
            steps=plan.steps,
            foreign_limit=plan.foreign_limit,
            divergence_steps=min(default.divergence_steps, plan.steps),
            seed=default.seed + SEEDS_APART * (1 + trial.number),
        )
        return ab(
            {trial.target: candidate},
            rival,
            self.separate_lab,
            preset=plan.preset,
            dataset=plan.dataset,
            settings=settings,
            on_progress=self._tell(trial),
        )

    @property
    def _where(self) -> tuple[str, str]:
        return self.separate_lab.context.engine.framework, self.separate_lab.context.engine.device

    def _null(self, trial: CalibrationTrial, own: Kernel) -> Kernel:
        return self._plant(trial, own, "null", plants.null_source(plants.source_of(own), self._note(trial)))

    def _slowed(self, trial: CalibrationTrial, own: Kernel, subject: PlantedTarget, share: float) -> Kernel:
        assert subject.work is not None
        turns = subject.work.turns(share)
        source = plants.slowed_source(plants.source_of(own), own.target, turns, self._note(trial))
        return self._plant(trial, own, "slowed", source)

    def _harmful(self, trial: CalibrationTrial, own: Kernel) -> Kernel:
        make = plants.gradient_source if trial.group.plant == GRADIENT else plants.precision_source
        return self._plant(trial, own, trial.group.plant, make(plants.source_of(own), own.target, self._note(trial)))

    def _plant(self, trial: CalibrationTrial, own: Kernel, what: str, source: str) -> Kernel:
        return plants.plant(self.separate_lab.plants, own, f"{what}_{trial.group.stage}", source)

    def _note(self, trial: CalibrationTrial) -> str:
        """What makes each trial's kernel another content, also where the conditions are others."""
        conditions = json_sha256(self.plan.conditions(trial.group.stage))[:8]
        group = trial.group
        return f"Planted for calibration: {group.stage}, {group.plant}, {group.effect:g}, {trial.number}, {conditions}."

    def _tell(self, trial: CalibrationTrial) -> Report | None:
        if self.on_progress is None:
            return None
        return lambda message: self.on_progress({"stage": trial.label}) if self.on_progress else None


def _findings(record: StageRecord, seconds: float) -> TrialResults:
    """The part of a stage's record that the table needs; the whole lies in the separate lab's ledger under "record"."""
    results = TrialResults(
        verdict=record.verdict,
        reason=record.results.reason,
        seconds=seconds,
        record=record.id,
        kernel=record.kernel,
        seeds=record.seeds.model_dump() if record.seeds else None,
    )
    if isinstance(record, VerifyRecord):
        return results.model_copy(update={"failed_check": record.results.failed_check})
    if isinstance(record, BenchRecord):
        kept = ("ratio", "interval", "looks", "foreign_load", "load_average")
        return results.model_copy(update={name: getattr(record.results, name) for name in kept})
    rule = record.settings.rule
    of_ab = ("ratio", "look", "disturbed", "attempt")
    found = {name: getattr(record.results, name) for name in of_ab}
    return results.model_copy(update={**found, "rule_alpha": rule.alpha if rule else None})
