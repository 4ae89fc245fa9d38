"""Verbs that read the ledger: evidence, report, ledger."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import click
from rich.console import Console

from autoresearch_lab import lookup
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import PATH, Count
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.subject import FORMS, KernelWords, kernel_arguments
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import output_file
from autoresearch_lab.report import sources, terminal
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.report.target import evidence_of
from autoresearch_lab.report.write import DEFAULT_NAME, write_report


def evidence(session: Session, *, named: list[KernelWords], target: str | None, sql: str | None) -> VerbResult:
    if sql is not None:
        if target is not None or named:
            raise LabError("--sql asks the whole ledger; put target and kernel into the SELECT")
        found = sources.read(session.lab, None)
        from autoresearch_lab.report import query  # not at the top: it loads DuckDB and PyArrow

        answer = query.ask(sql, lookup.everything(session.lab.ledger), found.shipped)
        return VerbResult(answer.plain(), lambda console: terminal.print_answer(console, answer))
    if (target is None) == (not named):
        raise LabError(f"evidence: name a kernel ({FORMS}), a target with --target, or ask with --sql")
    if target is not None:
        chosen, kernel = find_target(load_catalog(session.lab.root), target), None
    elif named[0].folder is not None:
        opened = named[0].open(session.lab)
        chosen, kernel = opened.target, opened.kernel.name
    else:
        chosen, kernel = named[0].subject(session.lab), named[0].name
    context, remark = session_context(session)
    found = sources.read(session.lab, context)
    known = evidence_of(found, chosen, kernel, remark)
    return VerbResult(known.plain(), lambda console: terminal.print_evidence(console, known))


def report(session: Session, *, output: Path | None) -> VerbResult:
    path = output or session.lab.root.results / DEFAULT_NAME
    if path.suffix.lower() not in (".html", ".htm"):
        raise LabError(f"the report is HTML: give --output a name that ends in .html, not {path.name}")
    path = output_file(path, "report")
    context, remark = session_context(session)
    size = write_report(session.lab, context, path, [remark] if remark else [])
    records = session.lab.ledger.count()
    data = {"path": str(path), "bytes": size, "records": records}
    return VerbResult(data, lambda console: console.print(f"report: {path} ({size / 1e6:.1f} MB, {records} records)"))


def ledger(
    session: Session,
    *,
    action: str | None,
    others: tuple[Path, ...],
    check: bool,
    tail: int | None,
    export: Path | None,
) -> VerbResult:
    if action is not None:
        if not others or check or tail is not None or export is not None:
            raise LabError("ledger merge: name the files of other ledgers, and no option beside them")
        return _merge(session, others)
    count = session.lab.ledger.count()
    data: dict[str, object] = {"path": str(session.lab.ledger.path), "records": count}
    shown: list[Callable[[Console], None]] = []
    positive = True
    if tail is not None:
        newest = [*islice(lookup.everything(session.lab.ledger, newest_first=True), tail)][::-1]
        data["tail"] = [record.plain() for record in newest]
        shown.append(lambda console: terminal.print_records(console, newest))
    if export is not None:
        from autoresearch_lab.report import query

        query.export(lookup.everything(session.lab.ledger), output_file(export, "ledger"))
        data["export"] = str(export)
        shown.append(lambda console: console.print(f"{count} records written to {export}"))
    if check or not shown:
        with progress(session.log, session.verb) as show:
            state = inspect(session.lab, lambda done, size: show({"stage": "read", "done": done, "total": size}))
        data.update(state.plain())
        positive = not state.problems
        shown.append(lambda console: terminal.print_integrity(console, session.lab.ledger.path, state))

    def render(console: Console) -> None:
        for show in shown:
            show(console)

    return VerbResult(data, render, positive)


def _merge(session: Session, others: tuple[Path, ...]) -> VerbResult:
    own = session.lab.ledger
    with progress(session.log, session.verb) as show:

        def tell(stage: str, done: int, size: int) -> None:
            show({"stage": stage, "done": done, "total": size})

        notes = own.merge([Ledger(path.expanduser()) for path in others], tell)
    data = [
        {"source": str(path), "record": note.id if note else None, "added": note.results.records if note else 0}
        for path, note in zip(others, notes, strict=True)
    ]

    def render(console: Console) -> None:
        for row in data:
            console.print(f"{row['source']}: {row['added']} added", markup=False, soft_wrap=True)

    return VerbResult({"path": str(own.path), "merged": data, "records": own.count()}, render)


def session_context(session: Session) -> tuple[Context | None, str | None]:
    """(context, None), or (None, why not) where no engine runs here: the ledger can be read without one.

    Raises:
        LabError: an engine that was asked for by name cannot run.
    """
    try:
        return session.lab.context, None
    except (LabError, LabFailure) as error:
        if session.engine_name != "auto":
            raise
        return None, f"device and software were not compared: {error}"


COMMANDS = {
    "evidence": command(
        "evidence",
        evidence,
        "Show the evidence for a kernel or a target on this machine, or ask the ledger in SQL (tables `ledger` and "
        "`shipped`: one row per record, nested fields as JSON columns, e.g. results->>'ratio').",
        kernel_arguments(least=0),
        click.option("--target", help="The target to show, with all its kernels."),
        click.option("--sql", metavar="SELECT", help="One SELECT over the tables `ledger` and `shipped`."),
    ),
    "report": command(
        "report",
        report,
        "Write the report: one self-contained HTML file.",
        click.option("--output", type=PATH, help="Where to write it [default: results/kernel_lab/report.html]."),
    ),
    "ledger": command(
        "ledger",
        ledger,
        "Check the ledger's chain of hashes (exit code 1 where it is broken), list records, or export them. `merge "
        "FILE...` takes over the records of other ledgers; those of other machines do not count here.",
        click.argument("action", required=False, type=click.Choice(["merge"]), metavar="[merge]"),
        click.argument("others", nargs=-1, type=PATH, metavar="[FILE]..."),
        click.option("--check", is_flag=True, help="Check the chain and the files that records name [default]."),
        click.option("--tail", type=Count(min=1), metavar="N", help="Show the newest N records."),
        click.option("--export", type=PATH, metavar="FILE", help="Write all records (.jsonl, .csv or .parquet)."),
    ),
}
