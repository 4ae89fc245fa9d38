"""The loop: an idea, its review, its trial, kept or not, told; a fold over the ledger.

Nothing is remembered elsewhere. Branch and table are brought to what the ledger says, so a run that was killed goes on
where it was: what was proposed is tried, a trial goes on after its last training, and what is decided stays decided.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from autoresearch_common.files import write_atomic
from autoresearch_common.reading import read_text
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.jobs import about
from autoresearch_lab.lab import Lab
from autoresearch_lab.lookup import by_id, ideas_on, newest_id
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.propose.command import run_line
from autoresearch_lab.propose.loop import check_the_lab
from autoresearch_lab.research.worktree import Worktree
from autoresearch_lab.results.note import IdeaResults, IdeaSettings
from autoresearch_lab.results.record import IdeaRecord, VersionRecord
from autoresearch_lab.results.trial import FailedHow
from autoresearch_lab.runs_table import Row, append_row, check_table, short_commit
from autoresearch_lab.versions.review import review
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.run import Versions, trial
from autoresearch_lab.versions.sides import SideRefused, open_side
from autoresearch_trainer.jobs import Report

TOLD, LOG = "ideas.json", "researcher.log"
# So many ideas in a row that came to no verdict, and a call ends.
MOST_FAILURES = 5
# BETTER has to come so often, each time from other seeds.
TRIALS = 2
# How the table of runs calls what came to no trial.
_STATUS = {"refused": "discard", "failed": "crash"}


@dataclass(frozen=True)
class ResearchLimits:
    """ideas: in all, earlier calls included, None = any number. hours: of this call, after which no idea is begun.
    seconds: for one idea, its trial apart; minutes: for a trial."""

    ideas: int | None
    hours: float | None
    seconds: float
    minutes: float


@dataclass(frozen=True)
class Research:
    """line: the researcher, for the shell. preset, dataset, rule: of the trials."""

    lab: Lab
    line: str
    branch: str
    preset: str
    dataset: str
    rule: TrialRule
    limits: ResearchLimits
    tell: Callable[[str], None] = lambda line: None
    listen: Report | None = None
    started: float = field(default_factory=time.monotonic)

    def ideas(self) -> list[IdeaResults]:
        """All of this branch, as far as the ledger says, in the order in which they were had."""
        newest = {note.results.number: note.results for note in ideas_on(self.lab, self.branch)}
        return list(newest.values())

    def run(self) -> list[IdeaResults]:
        """Try ideas until a limit is reached; returns all.

        Raises:
            LabError: the command cannot be started, there is no such dataset, or branch, table or ledger
                cannot be used.
            LabFailure: the set-up does not work, or the researcher changed the lab or its ledger.
        """
        check_table(self._table)
        before = len(self.ideas())
        while True:
            ideas = self.ideas()
            base = self._settle(ideas)
            _ = open_side("a", base, self.dataset, self.lab.root).manifest
            if ideas and ideas[-1].status == "proposed":
                self._note(self._tried(ideas[-1]))
            elif reason := self._over(ideas, before):
                self.tell(reason)
                return ideas
            else:
                self._note(self._proposed(ideas, base))

    def _over(self, ideas: list[IdeaResults], before: int) -> str | None:
        """Why no further idea is had."""
        limits, last, left = self.limits, ideas[before:][-MOST_FAILURES:], self._hours_left()
        if limits.ideas is not None and len(ideas) >= limits.ideas:
            return f"all {limits.ideas} ideas are tried"
        if left is not None and left <= 0:
            return f"{limits.hours:g} hours are over"
        if len(last) == MOST_FAILURES and all(idea.status not in ("keep", "discard") for idea in last):
            log = self.lab.root.relative(self._tree.store / LOG)
            return f"{MOST_FAILURES} ideas in a row came to no verdict; see {log}"
        return None

    def _hours_left(self) -> float | None:
        """Of this call."""
        hours = self.limits.hours
        return None if hours is None else round(hours - (time.monotonic() - self.started) / 3600, 3)

    def _settle(self, ideas: list[IdeaResults]) -> str:
        """Have branch and table say what the ledger says. Returns the commit that is kept."""
        kept = [idea.base for idea in ideas[:1]] + [idea.commit for idea in ideas if idea.status == "keep"]
        base = self._tree.bring_branch(*[*reversed(kept), None, None][:2])  # the last one, and the one before
        have = set(read_text(self._table).splitlines(keepends=True)) if self._table.exists() else set()
        for row in [*self._rows(ideas)][-2:]:  # a kill can lose no more, and the others are the user's to edit
            if row.line() not in have:
                append_row(self._table, row)
        return base

    def _proposed(self, ideas: list[IdeaResults], base: str) -> IdeaResults:
        """Let the researcher change the files of `base`, and take what it made of them."""
        place, seconds = self._tree, self.limits.seconds
        place.lay_out(base)
        variables = {
            "KERNEL_LAB_WORKSPACE": str(place.folder),
            "KERNEL_LAB_IDEAS": str(self._brief(ideas, base)),
            "KERNEL_LAB_CHECKOUT": str(CHECKOUT),
            "AUTORESEARCH_DATA": str(self.lab.root.data(self.dataset).parent),
        }
        last, log = newest_id(self.lab.ledger), place.store / LOG
        code = run_line(self.line, "--research", place.folder, variables, log, seconds)
        check_the_lab(self.lab, last)
        made = partial(IdeaResults, number=len(ideas) + 1, base=base)
        try:
            tree, description = place.changed(base)
        except LabError as error:
            return made(status="failed", reason=f"what it left cannot be taken: {error}")
        twin = next((idea for idea in ideas if (idea.base, idea.tree) == (base, tree)), None)
        if code is None:
            return made(status="failed", reason=f"the researcher had no end within {seconds:g} s")
        if code != 0:
            where = self.lab.root.relative(log)
            return made(status="failed", reason=f"the researcher ended with status {code}; see {where}")
        if tree is None:
            return made(status="failed", reason="nothing was changed")
        if twin is not None:
            return made(status="failed", description=description, reason=f"tried already, as idea {twin.number}")
        commit = place.commit(base, tree, description, len(ideas) + 1)
        return made(status="proposed", commit=commit, tree=tree, description=description)

    def _brief(self, ideas: list[IdeaResults], base: str) -> Path:
        """What the researcher is told, in a file."""
        most, told = self.limits.ideas, self._tree.store / TOLD
        left = {
            "ideas": None if most is None else most - len(ideas),
            "hours": self._hours_left(),
            "seconds": self.limits.seconds,
        }
        asked = {"base": base, "preset": self.preset, "dataset": self.dataset, "table": str(self._table)}
        tried = [idea.plain() for idea in ideas]
        write_atomic(told, json.dumps({**asked, "left": left, "ideas": tried}, indent=1) + "\n")
        return told

    def _tried(self, idea: IdeaResults) -> IdeaResults:
        """The idea with what the lab says of it."""
        listen = about(f"idea {idea.number}", self.listen) or (lambda message: None)
        records: list[VersionRecord] = []

        def end(status: str, reason: str) -> IdeaResults:
            said = {"status": status, "reason": reason, "trials": [record.id for record in records]}
            return idea.model_copy(update=said)

        try:
            looked_over = review(self._versions(idea, 0), listen)
            if stops := [finding for finding in looked_over.findings if finding.stops]:
                crashed = all(finding.kind in ("import", *get_args(FailedHow)) for finding in stops)
                return end("crash" if crashed else "refused", "; ".join(finding.note for finding in stops))
            while len(records) < TRIALS and all(record.verdict == "BETTER" for record in records):
                records.append(trial(self._versions(idea, len(records)), self.limits.minutes, listen, self.tell))
        except SideRefused as refusal:
            if refusal.side == "a":
                raise
            return end("refused", str(refusal))
        record = records[-1]
        if record.results.failed is not None and record.results.failed.side == "a":
            raise LabFailure(f"what is kept so far, {idea.base[:12]}, fails: {record.results.reason}")
        if record.results.failed is not None:
            return end("crash", record.results.reason)
        words = [f"{record.verdict}, {record.results.reason}" for record in records]
        return end("keep" if record.verdict == "BETTER" else "discard", "; again: ".join(words))

    def _versions(self, idea: IdeaResults, number: int) -> Versions:
        """What its trial of that number compares. No seed is used twice in a branch, so what is kept has no advantage
        by seeds that were kind to it, and ideas that are worth nothing fail one by one."""
        seed = self.rule.seed + (TRIALS * (idea.number - 1) + number) * self.rule.looks[-1]
        a = open_side("a", idea.base[:12], self.dataset, self.lab.root)
        b = open_side("b", (idea.commit or idea.base)[:12], self.dataset, self.lab.root)
        return Versions(self.lab, a, b, self.preset, replace(self.rule, seed=seed))

    def _note(self, idea: IdeaResults) -> None:
        """Into the ledger, from which everything follows."""
        context, settings = self.lab.context, IdeaSettings(event="idea", branch=self.branch)
        self.lab.ledger.append(IdeaRecord, **context.fields(), settings=settings, results=idea)
        words = [word for word in (idea.description, idea.reason) if word]
        self.tell(f"idea {idea.number}: {idea.status}: {': '.join(words)}")

    def _rows(self, ideas: list[IdeaResults]) -> Iterator[Row]:
        """Of the table of runs, one for each idea; before the first that was tried, what it was compared with."""
        started = False
        for idea in ideas:
            if idea.status == "proposed":
                continue
            record = by_id(self.lab.ledger, idea.trials[-1]) if idea.trials else None
            found = record.results if isinstance(record, VersionRecord) else None
            if found is not None and found.val_bpb and not started:
                started, memory = True, found.peak_memory_mb["a"]
                words = f"{self.branch}: where research began"
                yield Row(short_commit(idea.base), found.val_bpb["a"], memory, "keep", words)
            yield Row(
                commit=short_commit(idea.commit or "-"),
                val_bpb=found.val_bpb.get("b") if found else None,
                memory_mb=found.peak_memory_mb.get("b", 0.0) if found else 0.0,
                status=_STATUS.get(idea.status, idea.status),
                description=f"{self.branch} {idea.number}: {idea.description or idea.reason}",
            )

    @property
    def _tree(self) -> Worktree:
        return Worktree(self.lab.root, self.branch)

    @property
    def _table(self) -> Path:
        return self.lab.root.path / "results.tsv"
