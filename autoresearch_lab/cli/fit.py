"""Verb `fit`: the best starting shape of the trainer for this machine."""

from __future__ import annotations

import click

from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, FOREIGN_LIMIT, SEED, FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.fit.run import fit, fit_settings
from autoresearch_lab.fit.table import render
from autoresearch_trainer.config import PRESETS

MINUTES = 20.0


def run(
    session: Session,
    *,
    minutes: float | None,
    full: bool,
    preset: str | None,
    dataset: str,
    seed: int,
    foreign_limit: float,
) -> VerbResult:
    if full and minutes is not None:
        raise LabError("give --minutes or --full, not both")
    limit = None if full else minutes or MINUTES
    lab = session.lab
    settings = fit_settings(lab, preset or lab.engine.default_preset, dataset, limit, seed, foreign_limit)
    with progress(session.log, session.verb, session.status) as listen:
        record = fit(lab, settings, listen, session.say)
    data = {"verdict": record.verdict, **record.details()}
    return VerbResult(data, lambda console: render(record, console), positive=record.verdict != "UNDECIDED")


COMMANDS = {
    "fit": command(
        "fit",
        run,
        "Which shape of the trainer suits this machine? Tries depths, widths and tokens per step around a preset by "
        "successive halving, compares the best with the preset in fresh trainings, and makes it the default of "
        "train.py and the lab on this device where it is surely better. Exit code 0 = it is, or the preset surely is, "
        "1 = undecided: the preset stays.",
        click.option("--minutes", type=FiniteRange(min=1.0), help="Budget [default: 20]; the same command goes on "
                     "where an earlier one was killed."),
        click.option("--full", is_flag=True, help="No budget: more shapes, each for longer; an hour on a CPU."),
        click.option("--preset", type=click.Choice(list(PRESETS)),
                     help="Whose vocabulary, sequence length and evaluation are kept [default: by the hardware]."),
        DATASET,
        click.option("--seed", type=SEED, default=42, show_default=True, help="Of the trainings that choose."),
        FOREIGN_LIMIT,
    ),
}  # fmt: skip
