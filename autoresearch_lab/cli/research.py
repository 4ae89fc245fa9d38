"""`orchestrate --research`: somebody's ideas for the trainer, with the lab deciding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from autoresearch_lab.cli.app import Session, VerbResult
from autoresearch_lab.cli.options import DatasetName, FiniteRange, PresetName
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.datasets import default_dataset
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import default_preset
from autoresearch_lab.propose.attempts import Budget
from autoresearch_lab.research.loop import Research, ResearchLimits
from autoresearch_lab.results.note import IdeaResults
from autoresearch_lab.versions.rule import TrialRule

_RULE = TrialRule()
IDEAS, BRANCH, MINUTES = 20, "lab-research", 10.0
COLOURS = {"keep": "bold green", "discard": "", "proposed": "bold", "crash": "red", "refused": "red", "failed": "red"}


@dataclass(frozen=True)
class ResearchOptions:
    """What `orchestrate` was asked for with --research, and may not be asked for without; None = not given."""

    research: str | None
    branch: str | None
    hours: float | None
    minutes: float | None
    dataset: str | None
    preset: str | None
    foreign_limit: float | None


def night(
    session: Session, given: ResearchOptions, ideas: int | None, seconds: float | None, steps: int, dry_run: bool
) -> VerbResult:
    """Try ideas until a limit is reached; dry_run: show those that there are."""
    if given.research is None or not given.research.strip():
        raise LabError("--research: name a command")
    if given.branch == "":
        raise LabError("--branch: '' is no name of a branch")
    most = ideas or (None if given.hours else IDEAS)
    limit = _RULE.foreign_limit if given.foreign_limit is None else given.foreign_limit
    asked = Research(
        session.lab,
        given.research,
        given.branch or BRANCH,
        given.preset or default_preset(session.lab),
        given.dataset or default_dataset(session.lab.root.datasets),
        replace(_RULE, steps=steps, foreign_limit=limit),
        ResearchLimits(most, given.hours, seconds or Budget.seconds, given.minutes or MINUTES),
        session.say,
    )
    if dry_run:
        return _outcome(asked, asked.ideas())
    with progress(session.log, session.verb, session.status) as listen:
        return _outcome(asked, replace(asked, listen=listen).run())


def _outcome(asked: Research, ideas: list[IdeaResults]) -> VerbResult:
    kept = [idea for idea in ideas if idea.status == "keep"]

    def render(console: Console) -> None:
        table = Table("idea", "commit", "status", Column("what", overflow="fold"), "why", box=None)
        for idea in ideas:
            status = Text(idea.status, style=COLOURS[idea.status])
            table.add_row(str(idea.number), (idea.commit or "-")[:7], status, Text(idea.description), Text(idea.reason))
        console.print(table)
        console.print(f"{len(kept)} of {len(ideas)} kept, on branch {asked.branch}")

    data = {"branch": asked.branch, "kept": len(kept), "ideas": [idea.plain() for idea in ideas]}
    return VerbResult(data, render, positive=bool(kept))


RESEARCH_OPTIONS = (
    click.option("--research", metavar="CMD", help="Let this shell command (a coding agent, say) change the trainer in "
                 "a git worktree of its own, again and again; what is BETTER twice is kept. docs/trial.md"),
    click.option("--branch", metavar="NAME", help="Of --research: where what is kept stands; begins at HEAD, or goes "
                 f"on.  [default: {BRANCH}]"),
    click.option("--hours", type=FiniteRange(min=0.001), help="Of --research: begin no idea after that long."),
    click.option("--minutes", type=FiniteRange(min=0.1), help=f"Of --research: for a trial.  [default: {MINUTES:g}]"),
    click.option("--dataset", type=DatasetName(), help="Of --research: to train on.  [default: as train.py]"),
    click.option("--preset", type=PresetName(),
                 help="Of --research: what to train.  [default: what suits this machine]"),
    click.option("--foreign-limit", type=FiniteRange(0.0, 1.0), help="Of --research: share of the cores that other "
                 f"processes may use in a trial.  [default: {_RULE.foreign_limit}]"),
)  # fmt: skip
