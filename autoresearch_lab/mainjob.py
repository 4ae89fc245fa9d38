"""The main job, from nothing to a report: prepare data, profile, orchestrate, compare everything promoted with the
baseline, train once more with it, and report. Each part is skipped where the ledger already holds what it would find.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_data.build import prepare
from autoresearch_data.corpora import find_corpus
from autoresearch_data.dataset import Dataset
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_data.progress import Reporter
from autoresearch_lab import workloads
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.orchestrate import Candidate, State
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.profile.run import take_profile
from autoresearch_lab.profile.schema import Profile, load, save
from autoresearch_lab.promote.selection import Selection, resolve
from autoresearch_lab.records import Record

Say = Callable[[str], None]
TRAIN_EVENT = "train"


@dataclass
class MainJob:
    """One run of the main job. `say` gets a line per stage, `on_progress` what happens inside one."""

    lab: Lab
    preset: str
    dataset: str
    top_k: int
    most_finalists: int
    train_seconds: float
    say: Say
    on_progress: Callable[[dict[str, Any]], None] | None = None

    def prepare(self) -> Dataset:
        """The prepared dataset; made now if the folder holds none that is valid.

        Raises:
            LabError, LabFailure: what the data package says, as the lab's own errors.
        """
        try:
            made = prepare(find_corpus(self.dataset), self.lab.root.data(self.dataset), Reporter())
        except DataError as error:
            raise LabError(str(error)) from None
        except DataFailure as error:
            raise LabFailure(str(error)) from None
        before = " (prepared before)" if made.reused else ""
        self.say(f"data: {self.dataset} {made.dataset.fingerprint[:12]}{before}")
        return made.dataset

    def profile(self, dataset: Dataset) -> Profile:
        """The newest profile of the baseline trainer that counts here, or a new one."""
        catalog = load_catalog(self.lab.root)
        selection = resolve("baseline", catalog, self.lab.context, self.lab.root)
        known = self._known_profile(dataset, selection)
        if known is not None:
            self.say(f"profile: taken before (record {(known.id or '')[:12]})")
            return known
        self.say(f"profile: running the trainer, preset {self.preset}")
        return take_profile(
            self.lab,
            catalog,
            preset=self.preset,
            dataset_folder=dataset.folder,
            selection=selection,
            on_progress=self.on_progress,
        )

    def _known_profile(self, dataset: Dataset, selection: Selection) -> Profile | None:
        for record in reversed(self.lab.ledger.find(kind="profile", **self.lab.context.keys())):
            settings = record.settings or {}
            same = (
                settings.get("preset") == self.preset
                and (settings.get("dataset") or {}).get("fingerprint") == dataset.fingerprint
                and settings.get("selection") == selection.hashes()
            )
            if not same or not record.artifacts:
                continue
            path = self.lab.root.path / record.artifacts[0].path
            try:
                if file_sha256(path) != record.artifacts[0].sha256:
                    continue
                found = load(path).model_copy(update={"id": record.id})
                for reference in found.workloads.values():
                    workloads.load(self.lab.root.path / reference.path, expected=reference.sha256)
                return found
            except (OSError, LabError):
                continue  # the files that belong to the record are lost or damaged: take a new profile
        return None

    def orchestrate(self, profile: Profile) -> tuple[list[Candidate], dict[str, State], Pipeline]:
        pipeline = Pipeline(
            profile,
            self.lab.root.workspaces,
            self.lab,
            self.top_k,
            most_finalists=self.most_finalists,
            winners_together=True,
            on_progress=self.on_progress,
            on_remark=self.say,
        )
        candidates, states = pipeline.run(lambda candidate, step: self.say(f"{step}: {candidate.label}"))
        return candidates, states, pipeline

    def compare(self, pipeline: Pipeline) -> Record | None:
        """The A/B of everything promoted against the baseline; None where nothing is. Gains need not add up, so several
        promoted kernels are measured together; one alone already was."""
        selection = resolve("promoted", load_catalog(self.lab.root), self.lab.context, self.lab.root)
        chosen = pipeline.called(selection.chosen())
        if not chosen:
            return None
        known = pipeline.known_ab(chosen, "baseline")
        if known is None:
            self.say(f"ab: all promoted kernels together against the baseline ({', '.join(chosen)})")
            pipeline.joint_ab(chosen, against="baseline")
            known = pipeline.known_ab(chosen, "baseline")
        return known

    def train(self, dataset: Dataset) -> dict[str, Any]:
        """One training run with the promoted kernels; returns its run.json.

        Raises:
            LabFailure: the run failed; its own message is on stderr.
        """
        selection = resolve("promoted", load_catalog(self.lab.root), self.lab.context, self.lab.root)
        asked = {
            "event": TRAIN_EVENT,
            "preset": self.preset,
            "dataset": dataset.fingerprint,
            "seconds": self.train_seconds,
            "kernels": selection.hashes(),
        }
        folder = self.lab.root.results / "training" / json_sha256([asked, self.lab.context.keys()])[:16]
        for record in reversed(self.lab.ledger.find(kind="note", **self.lab.context.keys())):
            if record.settings == asked and (folder / "run.json").is_file():
                self.say("train: with the promoted kernels, done before")
                return json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.say(f"train: {self.train_seconds:g} s with the promoted kernels")
        command = [sys.executable, str(CHECKOUT / "train.py"), "--engine", self.lab.context.engine.name]
        command += ["--preset", self.preset, "--time-budget", str(self.train_seconds), "--kernels", "promoted"]
        command += ["--dataset", dataset.folder.name, "--data-dir", str(dataset.folder.parent)]
        command += ["--out", str(folder), "--root", str(self.lab.root.path)]
        # Eager, as the A/B measured it.
        command += ["--compile", "off"]
        # The run's lines go where this job's own remarks go: stdout is kept for the result.
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
            raise LabFailure("the closing training run failed; see its message above")
        result = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        artifact = {"path": self.lab.root.relative(folder / "run.json"), "sha256": file_sha256(folder / "run.json")}
        fields = self.lab.context.fields()
        self.lab.ledger.append("note", **fields, settings=asked, results=result["summary"], artifacts=[artifact])
        return result

    def save_profile(self, profile: Profile) -> Path:
        """Leave the profile where a person looks for it."""
        path = self.lab.root.results / "profile.json"
        save(profile, path)
        return path
