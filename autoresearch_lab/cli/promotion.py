"""Verbs `promotion-check`, `promote` and `demote`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.integration import candidates
from autoresearch_lab.errors import LabError
from autoresearch_lab.promote.apply import demote as demote_kernel
from autoresearch_lab.promote.apply import promote_all
from autoresearch_lab.promote.check import Readiness, readiness


def check(session: Session, *, target: str | None, workspace: Path | None, kernel: str | None) -> Outcome:
    if workspace is not None and kernel is not None:
        raise LabError("promotion-check: give --workspace or --kernel, not both")
    if workspace is not None:
        chosen = list(candidates(session, workspace, ()).values())
        if target not in (None, chosen[0].target):
            raise LabError(f"promotion-check: {workspace} is a workspace of target {chosen[0].target}, not {target}")
        target = chosen[0].target
    if target is None:
        raise LabError("promotion-check: give --target T, or --workspace DIR")
    subject = find_target(load_catalog(session.lab.root), target)
    if kernel is not None:
        chosen = list(candidates(session, None, (f"{target}={kernel}",)).values())
    elif workspace is None:
        engine = session.lab.engine
        chosen = subject.with_role("candidate", engine.framework, engine.device)
        if not chosen:
            raise LabError(f"target {target} has no candidate kernel for engine {engine.name}")
    found = [readiness(subject, one, session.lab) for one in chosen]
    ready = any(one.ready for one in found)
    data = {"target": target, "ready": ready, "kernels": [one.plain() for one in found]}
    return Outcome(data, lambda console: _show_readiness(found, console), positive=ready)


def _show_readiness(found: list[Readiness], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("kernel", "verify", "bench", "ab", "ready"):
        table.add_column(column, no_wrap=True)
    for one in found:
        cells = [f"{r.verdict} {r.id[:8]}" if r else "-" for r in one.records.values()]
        table.add_row(one.standing.kernel.name, *cells, "yes" if one.ready else "no")
    console.print(table)
    for one in found:
        if one.obstacle:
            console.print(one.obstacle, markup=False, soft_wrap=True)
        if one.next_command:
            console.print(f"next: {one.next_command}", style="bold", markup=False, soft_wrap=True)


def promote(
    session: Session, *, workspace: Path | None, kernels: tuple[str, ...], name: str | None, ship: bool
) -> Outcome:
    chosen = candidates(session, workspace, kernels)
    records = promote_all(chosen, session.lab, name=name, ship=ship)
    data: dict[str, Any] = {"promoted": [record.plain() for record in records]}

    def show(console: Console) -> None:
        for record in records:
            where = (record.results or {})["file"]
            console.print(f"promoted {record.target}={record.kernel.name if record.kernel else '?'} ({where})")

    return Outcome(data, show)


def demote(session: Session, *, target: str, ship: bool) -> Outcome:
    find_target(load_catalog(session.lab.root), target)
    record = demote_kernel(target, session.lab, ship=ship)
    now = (record.results or {})["now"]["name"]
    taken = record.kernel.name if record.kernel else "?"
    message = f"demoted {target}={taken}; the trainer uses {now} again"
    return Outcome({"demoted": record.plain()}, lambda console: console.print(message))


def _command(name: str, function: Any, help_text: str, *options: Any) -> click.Command:
    callback = verb(function)
    for option in reversed(options):
        callback = option(callback)
    return click.command(name, help=help_text)(callback)


_TARGET = click.option("--target", required=True, help="The target.")
_WORKSPACE = click.option("--workspace", type=click.Path(path_type=Path), help="A workspace's kernel.")
_SHIP = click.option("--ship", is_flag=True, help="In the committed list, kernels/promoted.toml.")

COMMANDS = {
    "promotion-check": _command(
        "promotion-check",
        check,
        "Which evidence a kernel has, what is missing, and the next command. Exit code 0 = ready to promote.",
        click.option("--target", help="The target [default: the workspace's]."),
        _WORKSPACE,
        click.option("--kernel", help="A kernel of the catalogue [default: all candidates of the target]."),
    ),
    "promote": _command(
        "promote",
        promote,
        "Let the trainer of this machine use a kernel that won its A/B.",
        _WORKSPACE,
        click.option("--kernel", "kernels", multiple=True, metavar="TARGET=NAME", help="Kernel of the catalogue."),
        click.option("--name", help="Name for a workspace's kernel in the catalogue [default: the folder's]."),
        _SHIP,
    ),
    "demote": _command("demote", demote, "Back to the baseline kernel for one target on this machine.", _TARGET, _SHIP),
}
