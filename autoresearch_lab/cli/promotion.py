"""Verbs `promotion-check`, `promote` and `demote`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from autoresearch_lab import diet
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.subject import FORMS, KernelWords, choose, choose_all, kernel_arguments
from autoresearch_lab.errors import LabError
from autoresearch_lab.promote.apply import demote as demote_kernel
from autoresearch_lab.promote.apply import promote_all
from autoresearch_lab.promote.check import Readiness, readiness
from autoresearch_lab.promote.selection import lost_promotions


def check(session: Session, *, named: list[KernelWords], target: str | None) -> VerbResult:
    if (target is None) == (not named):
        raise LabError(f"promotion-check: name a kernel ({FORMS}), or a target with --target")
    engine = session.lab.engine
    if target is None:
        one = choose(named[0], session)
        subject, kernels = one.target, [one.kernel]
    else:
        subject = find_target(load_catalog(session.lab.root), target)
        kernels = subject.with_role("candidate", engine.framework, engine.device)
    if not kernels:
        raise LabError(f"target {target} has no candidate kernel for engine {engine.name}")
    found = [readiness(subject, kernel, session.lab) for kernel in kernels]
    ready = any(one.ready for one in found)
    lost = lost_promotions(load_catalog(session.lab.root), session.lab.root, subject.name)
    data = {"target": subject.name, "ready": ready, "kernels": [one.plain() for one in found], "lost_promotions": lost}
    return VerbResult(data, lambda console: _show_readiness(found, lost, console), positive=ready)


def _show_readiness(found: list[Readiness], lost: list[str], console: Console) -> None:
    for line in lost:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("kernel", "verify", "bench", "ab", "ready"):
        table.add_column(column, no_wrap=True)
    for one in found:
        cells = [f"{r.verdict} {r.id[:8]}" if r else "-" for r in one.records.values()]
        table.add_row(one.standing.kernel.name, *cells, "yes" if one.ready else "no")
    console.print(table)
    for one in found:
        for line in one.by_choice:
            console.print(f"{one.standing.kernel.name}: A/B with {line}", markup=False, soft_wrap=True)
        _show_diet(one.standing.kernel.name, one.diet, console)
        _show_not_enforced(one.standing.kernel.name, one.not_enforced, console)
        if one.obstacle:
            console.print(one.obstacle, markup=False, soft_wrap=True)
        if one.next_command:
            console.print(f"next: {one.next_command}", style="bold", markup=False, soft_wrap=True)
        elif one.remedy:
            console.print(f"next: {one.remedy}", style="bold", markup=False, soft_wrap=True)


def _show_diet(name: str, found: list[str], console: Console) -> None:
    for line in found:
        console.print(f"{name} goes beyond a kernel's diet: {line}", style="yellow", markup=False, soft_wrap=True)


def _show_not_enforced(name: str, found: list[str], console: Console) -> None:
    if found:
        text = f"{name} was judged with this not enforced on this system: {', '.join(found)}"
        console.print(text, style="yellow", markup=False, soft_wrap=True)


def promote(session: Session, *, named: list[KernelWords], name: str | None, ship: bool) -> VerbResult:
    kernels = choose_all(named, session)
    diets = {f"{target}={one.name}": diet.lines(one.path) for target, one in kernels.items()}
    records = promote_all(kernels, session.lab, name=name, ship=ship)
    data = {"promoted": [record.plain() for record in records], "diet": diets}

    def show(console: Console) -> None:
        for record in records:
            modes = " and ".join(record.settings.modes or [])
            console.print(f"promoted {record.target}={record.kernel.name} for {modes} runs ({record.results.file})")
            _show_not_enforced(record.kernel.name, record.not_enforced, console)
        for label, found in diets.items():
            _show_diet(label, found, console)

    return VerbResult(data, show)


def demote(session: Session, *, target: str, ship: bool) -> VerbResult:
    find_target(load_catalog(session.lab.root), target)
    record = demote_kernel(target, session.lab, ship=ship)
    now = record.results.now.name
    taken = record.kernel.name if record.kernel else "?"
    message = f"demoted {target}={taken}; the trainer uses {now} again"
    return VerbResult({"demoted": record.plain()}, lambda console: console.print(message))


_SHIP = click.option("--ship", is_flag=True, help="In the committed list, kernels/promoted.toml.")

COMMANDS = {
    "promotion-check": command(
        "promotion-check",
        check,
        "Which evidence a kernel has, what is missing, and the next command. Exit code 0 = ready to promote.",
        kernel_arguments(least=0),
        click.option("--target", help="All candidates of this target."),
    ),
    "promote": command(
        "promote",
        promote,
        "Let the trainer of this machine use kernels that won their A/B. Exit code 0 = it does, 1 = evidence is "
        "missing.",
        kernel_arguments(most=None),
        click.option("--name", help="Name for a workspace's kernel in the catalogue [default: the folder's]."),
        _SHIP,
    ),
    "demote": command(
        "demote",
        demote,
        "Back to the baseline kernel for one target on this machine.",
        click.option("--target", required=True, help="The target."),
        _SHIP,
    ),
}
