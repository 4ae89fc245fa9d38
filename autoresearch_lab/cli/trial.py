"""Verbs `trial`, `review` and `compare`: versions of the trainer against each other, one looked over before that, and
finished runs beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, FOREIGN_LIMIT, PATH, PRESET, Count, FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.compare import comparison, read_runs, show
from autoresearch_lab.compare import newest as newest_runs
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import default_preset
from autoresearch_lab.results.record import VersionRecord
from autoresearch_lab.results.trial import RecordedSide
from autoresearch_lab.runs_table import Row, append_row, check_table, old_decision, short_commit
from autoresearch_lab.versions.review import review
from autoresearch_lab.versions.rule import LEAST_STEPS, TrialRule
from autoresearch_lab.versions.run import Versions, keeps, trial
from autoresearch_lab.versions.sides import WORKING_TREE, open_side
from autoresearch_lab.versions.table import render, show_review

_RULE = TrialRule()


def run(
    session: Session,
    *,
    a: str | None,
    b: str | None,
    replay: int | None,
    log: bool,
    description: str,
    minutes: float,
    **options: Any,
) -> VerbResult:
    table = session.lab.root.path / "results.tsv"
    old = None
    if replay is not None:
        if a or b:
            raise LabError("give --replay, or the sides with --a and --b")
        old = old_decision(table, replay)
        a, b = old.base, old.commit
    if log:
        check_table(table)
    versions = _versions(session, a, b, **options)
    with progress(session.log, session.verb, session.status) as listen:
        record = trial(versions, minutes, listen, session.log.print)
    if log:
        append_row(table, _row(record, description))
    data: dict[str, Any] = {"verdict": record.verdict, "keep": keeps(record), **record.details()}
    if old is not None:
        data["old"] = old.plain()

    def show_all(console: Console) -> None:
        render(record, console)
        if old is not None:
            now = "keep" if keeps(record) else "discard"
            console.print(f"row {replay} of {table.name} said {old.status}; this trial says {now}")

    return VerbResult(data, show_all, positive=keeps(record))


def look_over(session: Session, *, a: str | None, b: str | None, **options: Any) -> VerbResult:
    versions = _versions(session, a, b, **options)
    with progress(session.log, session.verb, session.status) as listen:
        found = review(versions, listen)
    return VerbResult(found.plain(), lambda console: show_review(found, console), positive=found.passed)


def _versions(
    session: Session,
    a: str | None,
    b: str | None,
    *,
    dataset: str,
    preset: str | None,
    simpler: bool = False,
    **numbers: Any,
) -> Versions:
    lab = session.lab
    sides = (
        open_side("a", "HEAD" if a is None else a, dataset, lab.root),
        open_side("b", WORKING_TREE if b is None else b, dataset, lab.root),
    )
    if _are_one(*(side.recorded() for side in sides)):
        session.log.print("side b differs from side a in nothing: a version is held against itself", style="yellow")
    return Versions(lab, *sides, preset or default_preset(lab), replace(_RULE, **numbers), simpler)


def _are_one(a: RecordedSide, b: RecordedSide) -> bool:
    return all(getattr(a, name) == getattr(b, name) for name in ("tree", "options", "dataset"))


def _row(record: VersionRecord, description: str) -> Row:
    found, first, side = record.results, record.settings.a, record.settings.b
    options = " ".join(f"{name}={value}" for name, value in side.options.items())
    crashed = found.failed is not None and found.failed.side == "b"
    # A version against itself is the baseline that the first idea is compared with.
    kept = keeps(record) or _are_one(first, side)
    return Row(
        commit=short_commit(side.commit),
        val_bpb=found.val_bpb.get("b"),
        memory_mb=found.peak_memory_mb.get("b", 0.0),
        status="crash" if crashed else "keep" if kept else "discard",
        description=": ".join(filter(None, (options, description))),
    )


def compare(session: Session, *, runs: tuple[Path, ...], last: int | None) -> VerbResult:
    if bool(runs) == (last is not None):
        raise LabError("compare: name runs, or give --last N")
    below = session.lab.root.path / "runs"
    named = [below / run if not run.exists() and (below / run).exists() else run for run in runs]
    folders = named if last is None else newest_runs(session.lab.root, last)
    compared = read_runs(folders)
    if last is not None and len(compared) < last:
        session.log.print(f"no more than {len(compared)} are in {below}", soft_wrap=True)
    return VerbResult(comparison(compared), lambda console: show(compared, console))


_SIDES = (
    click.option("--a", metavar="SIDE", help="What is kept so far [default: HEAD]."),
    click.option("--b", metavar="SIDE", help="What may take its place [default: the working tree]."),
    DATASET,
    PRESET,
)

COMMANDS = {
    "trial": command(
        "trial",
        run,
        "Is side b a better version of the trainer than side a? Trains both in turns from the same seeds; val_bpb at "
        "equal time decides. A side is a git ref, '.' for the working tree, or NAME=VALUE words that override options "
        "of train.py. Exit code 0 = BETTER (with --simpler also SAME), 1 = WORSE, SAME or UNDECIDED.",
        *_SIDES,
        click.option("--steps", type=Count(min=LEAST_STEPS), default=_RULE.steps, show_default=True,
                     help="Optimizer steps of side a; b gets as many tokens, then as much time."),
        click.option("--minutes", type=FiniteRange(min=0.1), default=10.0, show_default=True,
                     help="Budget, after which no pair is begun but the first; the same command goes on from there."),
        FOREIGN_LIMIT,
        click.option("--simpler", is_flag=True, help="Side b is the simpler version: SAME is a reason to keep it."),
        click.option("--log", is_flag=True, help="Append a line to results.tsv: keep, discard or crash."),
        click.option("--description", default="", help="What side b tries, for that line."),
        click.option("--replay", type=Count(min=1), metavar="N",
                     help="Try the decision of row N of results.tsv again: that commit against the last kept before."),
    ),
    "review": command(
        "review",
        look_over,
        "Is side b worth a trial? What of the locked parts it touches, whether its imports are here, whether two steps "
        "train and can be evaluated, and what memory they take. Exit code 0 = nothing speaks against it, 1 = something "
        "does.",
        *_SIDES,
    ),
    "compare": command(
        "compare",
        compare,
        "Runs of train.py beside each other: what differs, val_bpb, speed, memory, and their curves. One that was "
        "interrupted has no val_bpb. A run is its folder, or that folder's name in runs/.",
        click.argument("runs", nargs=-1, type=PATH, metavar="[RUN]..."),
        click.option("--last", type=Count(min=1), metavar="N", help="The newest N runs in runs/."),
    ),
}  # fmt: skip
