"""Verbs that read the ledger: evidence, report, ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import output_file
from autoresearch_lab.report import query, sources, terminal
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.report.target import evidence_of
from autoresearch_lab.report.write import DEFAULT_NAME, write_report


@click.command(
    "evidence",
    help="Show the evidence for a target on this machine, or ask the ledger in SQL (tables `ledger` and `shipped`: one "
    "row per record, nested fields as JSON columns, e.g. results->>'ratio').",
)
@click.option("--target", help="The target to show.")
@click.option("--kernel", help="Only this kernel of the target.")
@click.option("--sql", metavar="SELECT", help="One SELECT over the table `ledger`.")
@verb
def evidence(session: Session, *, target: str | None, kernel: str | None, sql: str | None) -> Outcome:
    if sql is not None:
        if target is not None or kernel is not None:
            raise LabError("--sql asks the whole ledger; put target and kernel into the SELECT")
        found = sources.read(session.lab.root, session.lab.ledger, None)
        answer = query.ask(sql, found.records, found.shipped)
        return Outcome(answer.plain(), lambda console: terminal.print_answer(console, answer))
    if target is None:
        raise LabError("name a target with --target, or ask with --sql")
    chosen = find_target(load_catalog(session.lab.root), target)
    context, remark = session_context(session)
    found = sources.read(session.lab.root, session.lab.ledger, context)
    known = evidence_of(found, chosen, kernel, remark)
    return Outcome(known.plain(), lambda console: terminal.print_evidence(console, known))


@click.command("report", help="Write the report: one self-contained HTML file.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write it [default: results/kernel_lab/report.html].",
)
@verb
def report(session: Session, *, output: Path | None) -> Outcome:
    path = output or session.lab.root.results / DEFAULT_NAME
    if path.suffix.lower() not in (".html", ".htm"):
        raise LabError(f"the report is HTML: give --output a name that ends in .html, not {path.name}")
    path = output_file(path, "report")
    context, remark = session_context(session)
    size = write_report(session.lab.root, session.lab.ledger, context, path, [remark] if remark else [])
    records = len(session.lab.ledger.records())
    data = {"path": str(path), "bytes": size, "records": records}
    return Outcome(data, lambda console: console.print(f"report: {path} ({size / 1e6:.1f} MB, {records} records)"))


@click.command(
    "ledger", help="Check the ledger's chain of hashes (exit code 1 where it is broken), list records, or export them."
)
@click.option("--check", is_flag=True, help="Check the chain and the files that records name [default].")
@click.option("--tail", type=click.IntRange(min=1), metavar="N", help="Show the newest N records.")
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="FILE", help="Write all records (.jsonl, .csv or .parquet)."
)
@verb
def ledger(session: Session, *, check: bool, tail: int | None, export: Path | None) -> Outcome:
    records = session.lab.ledger.records()
    data: dict[str, Any] = {"path": str(session.lab.ledger.path), "records": len(records)}
    shown: list[Any] = []
    positive = True
    if tail is not None:
        newest = records[-tail:]
        data["tail"] = [record.plain() for record in newest]
        shown.append(lambda console: terminal.print_records(console, newest))
    if export is not None:
        query.export(records, output_file(export, "ledger"))
        data["export"] = str(export)
        shown.append(lambda console: console.print(f"{len(records)} records written to {export}"))
    if check or not shown:
        state = inspect(session.lab.root, session.lab.ledger)
        data.update(state.plain())
        positive = not state.problems
        shown.append(lambda console: terminal.print_integrity(console, session.lab.ledger.path, state))

    def render(console: Console) -> None:
        for show in shown:
            show(console)

    return Outcome(data, render, positive)


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


COMMANDS = {"evidence": evidence, "report": report, "ledger": ledger}
