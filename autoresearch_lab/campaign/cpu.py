"""The plan for any machine, from nothing to a report: prepare data, profile, orchestrate, compare everything promoted
with the baseline, train once more with it, and report. Each step takes what the ledger already holds of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import BadFile, read_json
from autoresearch_data.build import prepare
from autoresearch_data.corpora import Corpus, find_corpus
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_data.progress import Reporter
from autoresearch_lab import lookup
from autoresearch_lab.campaign.command import python, run_command
from autoresearch_lab.campaign.profiles import known_profile
from autoresearch_lab.campaign.steps import CampaignStep, StepFailed, TimeBox
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.datasets import is_own
from autoresearch_lab.errors import LabError, LabFailure, files_at_hand
from autoresearch_lab.lab import Lab
from autoresearch_lab.orchestrate import CandidateState
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.profile.run import take_profile
from autoresearch_lab.profile.schema import Profile, save
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.results.note import TrainSettings
from autoresearch_lab.results.record import AbRecord, TrainRecord
from autoresearch_lab.status import StatusFile
from autoresearch_trainer.jobs import Report

Say = Callable[[str], None]
STARTING_SECONDS = 60.0


class ClosingRun(BaseModel):
    """What is shown of the closing run."""

    val_bpb: float
    tokens_per_second: float
    num_steps: int


@dataclass
class MainJob:
    """The steps for any machine, and what each leaves to the next. `say` gets remarks, `on_progress` what happens
    inside a step. `states`: where every candidate ended."""

    lab: Lab
    preset: str
    dataset: str
    say: Say
    top_k: int = 8
    most_finalists: int = 3
    train_seconds: float = 20.0
    on_progress: Report | None = None
    status: StatusFile = field(default_factory=lambda: StatusFile(""))
    prepared: Dataset | None = None
    measured: Profile | None = None
    pipeline: Pipeline | None = None
    states: dict[str, CandidateState] = field(default_factory=dict)
    comparison: AbRecord | None = None
    closing: ClosingRun | None = None

    def check(self) -> None:
        """Raises LabError for a dataset that is neither prepared nor a corpus, before anything is begun."""
        if not is_own(self.lab.root, self.dataset):
            _find(self.dataset)

    def steps(self) -> list[CampaignStep]:
        """In order. With a limit on the time, orchestrate gets what the steps after it can do without."""
        closing = self.train_seconds + STARTING_SECONDS
        return [
            CampaignStep("data", self._prepare, self.dataset, reserve=20, interrupt=True),
            CampaignStep("profile", self._profile, self.preset, reserve=60, needs=("data",), interrupt=True),
            CampaignStep("orchestrate", self._orchestrate, needs=("profile",), interrupt=True),
            CampaignStep("compare", self._compare, needs=("profile",), interrupt=True),
            CampaignStep("train", self._train, reserve=closing, needs=("data",)),
            CampaignStep("report", self._report, reserve=10, interrupt=True),
        ]

    def _prepare(self, box: TimeBox) -> None:
        """The dataset; made now if the folder holds none that is valid. Raises what the data package says, as the lab's
        own errors."""
        folder, reused = self.lab.root.data(self.dataset), True
        try:
            if is_own(self.lab.root, self.dataset):
                self.prepared = open_dataset(folder)
            else:
                made = prepare(_find(self.dataset), folder, Reporter())
                self.prepared, reused = made.dataset, made.reused
        except DataError as error:
            raise LabError(str(error)) from None
        except DataFailure as error:
            raise LabFailure(str(error)) from None
        before = " (prepared before)" if reused else ""
        self.say(f"data: {self.dataset} {self.prepared.fingerprint[:12]}{before}")

    def _profile(self, box: TimeBox) -> None:
        """The newest profile of the baseline trainer that counts here, or a new one; left where people look for it."""
        assert self.prepared is not None
        catalog = load_catalog(self.lab.root)
        selection = resolve("baseline", catalog, self.lab.context, self.lab.root)
        known = known_profile(self.lab, self.preset, self.prepared.fingerprint, selection)
        if known is not None:
            self.say(f"profile: taken before (record {(known.id or '')[:12]})")
        self.measured = known or take_profile(
            self.lab,
            catalog,
            preset=self.preset,
            dataset_folder=self.prepared.folder,
            selection=selection,
            on_progress=self.on_progress,
        )
        save(self.measured, self.lab.root.results / "profile.json")

    def _orchestrate(self, box: TimeBox) -> None:
        pipeline = self._pipeline()
        try:
            _, self.states = pipeline.run(lambda candidate, step: self.say(f"{step}: {candidate.label}"))
        except BaseException:
            self.states = {candidate.label: pipeline.state(candidate) for candidate in pipeline.candidates()}
            raise
        if failed := [label for label, state in self.states.items() if state.failed]:
            raise StepFailed(f"a step failed of {', '.join(failed)}")

    def _pipeline(self) -> Pipeline:
        if self.pipeline is None:
            assert self.measured is not None
            self.pipeline = Pipeline(
                self.measured,
                self.lab.root.workspaces,
                self.lab,
                self.top_k,
                most_finalists=self.most_finalists,
                winners_together=True,
                on_progress=self.on_progress,
                on_remark=self.say,
                status=self.status,
            )
        return self.pipeline

    def _compare(self, box: TimeBox) -> None:
        """The A/B of everything promoted against the baseline. Gains need not add up, so several promoted kernels are
        measured together; one alone already was."""
        pipeline = self._pipeline()
        selection = resolve("promoted", load_catalog(self.lab.root), self.lab.context, self.lab.root)
        chosen = pipeline.called(selection.chosen())
        if not chosen:
            return
        self.comparison = pipeline.known_ab(chosen, "baseline")
        if self.comparison is None:
            self.say(f"ab: all promoted kernels together against the baseline ({', '.join(chosen)})")
            pipeline.joint_ab(chosen, against="baseline")
            self.comparison = pipeline.known_ab(chosen, "baseline")

    def _train(self, box: TimeBox) -> None:
        """One training run with the promoted kernels. Raises StepFailed where it fails; its message is on stderr."""
        assert self.prepared is not None
        dataset = self.prepared
        selection = resolve("promoted", load_catalog(self.lab.root), self.lab.context, self.lab.root)
        asked = TrainSettings(
            event="train",
            preset=self.preset,
            dataset=dataset.fingerprint,
            seconds=self.train_seconds,
            kernels=selection.recorded(),
        )
        identity = json_sha256([asked.model_dump(), self.lab.context.keys()])
        folder = self.lab.root.results / "training" / identity[:16]
        file = folder / "run.json"
        if (known := lookup.closing_run(self.lab, asked)) is not None:
            self.say("train: with the promoted kernels, done before")
            self.closing = ClosingRun.model_validate(known.results)
            return
        self.say(f"train: {self.train_seconds:g} s with the promoted kernels")
        words = ["--engine", self.lab.context.engine.name]
        words += ["--preset", self.preset, "--time-budget", str(self.train_seconds), "--kernels", "promoted"]
        words += ["--dataset", dataset.folder.name, "--data-dir", str(dataset.folder.parent)]
        words += ["--out", str(folder), "--root", str(self.lab.root.path)]
        # Its lines go where this job's own remarks go: stdout is kept for the result.
        done = run_command(python(str(CHECKOUT / "train.py"), *words), box, shown=sys.stderr)
        if done.code != 0:
            failed = "the closing training run failed; see its message above"
            raise StepFailed(done.reason if done.code is None else failed, done.code)
        results = _summary(file)
        artifact = {"path": self.lab.root.relative(file), "sha256": file_sha256(file)}
        fields = self.lab.context.fields()
        self.lab.ledger.append(TrainRecord, **fields, settings=asked, results=results, artifacts=[artifact])
        self.closing = ClosingRun.model_validate(results)

    def _report(self, box: TimeBox) -> None:
        # Not at the top: a bare machine, which runs another plan, has nothing that draws.
        from autoresearch_lab.report.write import write_report

        write_report(self.lab, self.lab.context)


def _find(corpus: str) -> Corpus:
    """Raises LabError where there is no such corpus."""
    try:
        return find_corpus(corpus)
    except DataError as error:
        raise LabError(str(error)) from None


def _summary(file: Path) -> Any:
    """What a run.json says of its end. Raises LabError where it is none."""
    try:
        with files_at_hand(f"cannot read {file}"):
            found = read_json(file)
            ClosingRun.model_validate(found["summary"])
            return found["summary"]
    except (BadFile, ValidationError, KeyError, TypeError) as error:
        raise LabError(f"{file} is not the record of a whole run ({str(error).splitlines()[0]})") from None
