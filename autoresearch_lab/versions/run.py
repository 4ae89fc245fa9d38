"""`trial`: two versions of the trainer, from the request to the ledger's record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from autoresearch_common.hashing import json_sha256
from autoresearch_lab import jobs
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.lookup import libraries, trials
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.record import VersionRecord
from autoresearch_lab.results.trial import VersionSettings
from autoresearch_lab.versions.course import Course
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.sides import Side, check_pair
from autoresearch_lab.versions.training import SideTrainer
from autoresearch_trainer.jobs import Report


@dataclass(frozen=True)
class Versions:
    """What a trial compares, and by which rule. simpler: b is the simpler version."""

    lab: Lab
    a: Side
    b: Side
    preset: str
    rule: TrialRule
    simpler: bool = False

    @cached_property
    def settings(self) -> VersionSettings:
        """Of the record.

        Raises:
            LabError: a side changes what is measured.
        """
        return VersionSettings(
            preset=self.preset,
            evaluation=check_pair(self.a, self.b),
            a=self.a.recorded(),
            b=self.b.recorded(),
            rule=self.rule.recorded(),
            simpler=self.simpler,
        )

    def known(self) -> VersionRecord | None:
        """The record of the same trial, where more of it would be the same again: it is decided by its pairs, or took
        all looks."""
        for record in trials(self.lab):
            if _identity(record.settings) == _identity(self.settings) and record.settings.simpler == self.simpler:
                found = record.results
                done = record.verdict != "UNDECIDED" or found.look == len(self.rule.looks)
                return record if done and not found.disturbed and found.failed is None else None
        return None

    def identity(self) -> str:
        """By which finished trainings are found again."""
        here = self.lab.context
        # Sums split over another number of threads round differently, and take another time.
        threads = os.environ.get("OMP_NUM_THREADS")
        machine = [here.engine.name, here.device["key"], libraries(here.software), threads]
        return json_sha256([_identity(self.settings), machine])


def trial(
    versions: Versions,
    minutes: float,
    listen: Report = lambda message: None,
    tell: Callable[[str], None] = lambda line: None,
) -> VersionRecord:
    """Decide whether side b is better than side a; append the record. What an earlier call finished is taken over; a
    trial that is done is not made again.

    Raises:
        LabError: a side changes what is measured, or refuses its options.
        LabFailure: the set-up does not work; nothing is recorded then.
    """
    lab, asked = versions.lab, versions.settings
    known = versions.known()
    if known is not None:
        tell(f"this trial is done: record {known.id[:12]}")
        return known
    identity = versions.identity()
    with jobs.running(lab.root.runs / f"trial-{identity[:12]}") as folder:
        trainer = SideTrainer(lab.context, versions.preset, versions.rule, Cache(lab.root), folder, identity, listen)
        course = Course(trainer, versions.a, versions.b, minutes, tell)
        try:
            verdict = course.run()
        except LabFailure:
            raise  # the logs stay in the run folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if course.found.failed is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            course.found.remarks = [f"its output is in {lab.root.relative(folder)}"]
    asked.steps = course.steps
    fields = lab.context.fields()
    return lab.ledger.append(VersionRecord, **fields, settings=asked, results=course.found, verdict=verdict)


def keeps(record: VersionRecord) -> bool:
    """Whether side b is to be kept."""
    return record.verdict == "BETTER" or (record.verdict == "SAME" and record.settings.simpler)


def _identity(settings: VersionSettings) -> Facts:
    """What makes a trial the same, however its sides were called."""
    named = {"asked": True, "commit": True}
    return settings.model_dump(mode="json", exclude={"simpler": True, "steps": True, "a": named, "b": named})
