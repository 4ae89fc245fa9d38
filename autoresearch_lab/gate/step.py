"""The gate's training step: the trainers of two versions in turns, each from its own read-only tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoresearch_data.dataset import Manifest
from autoresearch_data.errors import DataError
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.bench.rule import AMBIGUOUS, Rule
from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.gate.race import FAIL, Compared, Turns, race
from autoresearch_lab.jobs import about
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import PACKAGES
from autoresearch_lab.repository import git
from autoresearch_lab.versions.rule import LEAST_STEPS, TrialRule
from autoresearch_lab.versions.sides import WORKING_TREE, SideRefused, open_side
from autoresearch_lab.versions.training import SideFailed, SideTrainer
from autoresearch_trainer.jobs import Report

# Of each training; the first 11 are not timed.
STEPS = 80
# What the row may take that is not told otherwise: all looks at cpu-nano on two cores.
STEP_SECONDS = 600.0
# What a step runs, besides the baseline's kernels; the lab's own code stands around it.
PARTS = ("train.py", *(package for package in PACKAGES if package != "autoresearch_lab"))


@dataclass(frozen=True)
class StepRace:
    """The training step of `base` against that of `head` (None: of the working tree): what is trained, on what."""

    lab: Lab
    base: str
    head: str | None
    preset: str
    dataset: str

    def differs(self, old: Mapping[str, Target], new: Mapping[str, Target]) -> bool:
        """Whether a training with the baseline's kernels runs anything else in head; old, new: their catalogues."""
        compared = ["diff", "--quiet", self.base, *([self.head] if self.head else []), "--", *PARTS]
        return git(self.lab.root.path, *compared) is None or self._baselines(old) != self._baselines(new)

    def check_dataset(self) -> None:
        """Raises LabError where there is nothing to train on."""
        try:
            Manifest.read(self.lab.root.data(self.dataset))
        except DataError as error:
            raise LabError(f"gate: there is nothing to train on: {error}") from None

    def _baselines(self, catalog: Mapping[str, Target]) -> dict[str, str]:
        engine = self.lab.engine
        found = (target.with_role("baseline", engine.framework, engine.device) for target in catalog.values())
        return {f"{kernel.target}={kernel.name}": kernel.sha256 for kernels in found for kernel in kernels}

    def run(self, folder: Path, rule: Rule, budget_seconds: float, report: Report | None) -> Compared:
        """One row: seconds for as many tokens as a step of base has. Its unit is a round of three trainings from one
        seed (base, base once more and head, in a drawn order), each a process of its own.

        A head that does not train is a FAIL; where base does not, or the set-up, there is nothing to compare with.

        Raises:
            LabError: git cannot check one out.
        """
        name, root = f"training step, {self.preset}", self.lab.root
        base = open_side("a", self.base, self.dataset, root)
        head = open_side("b", self.head or WORKING_TREE, self.dataset, root)
        trainer = SideTrainer(
            self.lab.context, self.preset, TrialRule(), Cache(root), folder, "gate", reference=base.folder
        )
        tell = about(f"gate {name}", report)
        arms, rounds = (base, base, head), 0

        def take(seed: int) -> Turns:
            nonlocal rounds
            rounds += 1
            if tell is not None:
                tell({"stage": f"round {rounds}: base, base once more and head train"})
            order = np.random.default_rng(seed).permutation(len(arms)).tolist()
            speeds, load = trainer.speeds([arms[arm] for arm in order], seed, STEPS)
            found = np.zeros((1, len(arms)))
            found[0, order] = tokens / np.array(speeds)
            return Turns(found, load)

        at = base
        try:
            tokens = trainer.plan(base)
            trainer.speeds([base], 0, LEAST_STEPS)  # how much memory it takes says whether all three can take turns
            at = head
            trainer.plan(head)
            trainer.speeds([head], 0, LEAST_STEPS)
            return race(name, take, rule, budget_seconds, None)
        except (SideFailed, LabError, LabFailure) as error:
            if isinstance(error, SideFailed):
                at = error.side
            elif isinstance(error, SideRefused):
                at = head if error.side == head.name else base
            side = "head" if at is head else "base"
            why = f"{side} does not train: {str(error).removeprefix(f'side {at.name}: ')}"
            wrong = at is head and not isinstance(error, LabFailure)
            return Compared(name, FAIL if wrong else AMBIGUOUS, why)
