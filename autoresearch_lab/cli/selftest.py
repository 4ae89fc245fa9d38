"""Verbs `exploits` and `controls`: does the verifier catch what it must, and only that?"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, verb
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.verify.controls import controls as plant_controls

SUITE = CHECKOUT / "tests" / "exploits" / "suite.py"
BAD = ("missed", "wrongly rejected")
COLOURS = {"caught": "green", "passed": "green", "missed": "bold red", "wrongly rejected": "bold red"}
NO_FAULT = "none"  # the control in which nothing is planted


def exploits(session: Session, *, names: tuple[str, ...]) -> VerbResult:
    suite = load_suite()
    known = {case.name for case in suite.cases()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LabError(f"exploits: no kernel is called '{unknown[0]}'; they lie in {SUITE.parent}")
    rows = suite.judge(set(names), lambda row: None if session.as_json else _show_exploit(row, session.out))
    counts = Counter(row["outcome"] for row in rows)
    data = {"rows": rows, "counts": dict(counts)}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return VerbResult(data, lambda console: console.print(f"\n{summary}"), not any(counts[outcome] for outcome in BAD))


def _show_exploit(row: dict[str, Any], console: Console) -> None:
    """One line as soon as it is known: the whole takes minutes."""
    colour = COLOURS.get(row["outcome"], "yellow")
    check = row["failed_check"] or ("-" if row["expected"] is None else f"({row['expected']})")
    outcome = f"[{colour}]{row['outcome']:23}[/{colour}]"
    console.print(f"{row['name']:30} {outcome} {check:17} {row['seconds']:5.1f} s", soft_wrap=True)
    if row["outcome"] not in ("caught", "passed"):
        console.print(f"    {escape(row['reason'])}", style="dim", soft_wrap=True)


def controls(session: Session, *, target: str | None, seed: int) -> VerbResult:
    suite, catalog = load_suite(), load_catalog(Root())
    chosen = [find_target(catalog, target)] if target else list(catalog.values())
    rows = []
    for one in chosen:
        found = plant_controls(one, suite.small_workloads(one.name), seed)
        clean = found.pop(NO_FAULT)
        row = {"target": one.name, "clean_passes": clean, "controls": found, "admitted": clean and all(found.values())}
        rows.append(row)
        if not session.as_json:
            _show_controls(row, session.out)
    good = all(row["admitted"] for row in rows)
    planted = sum(len(row["controls"]) for row in rows)
    missed = sum(not noticed for row in rows for noticed in row["controls"].values())
    summary = f"{planted} faults planted into {len(rows)} targets, {missed} of them not noticed."
    return VerbResult({"targets": rows}, lambda console: console.print(f"\n{summary}"), good)


def _show_controls(row: dict[str, Any], console: Console) -> None:
    state = "[green]admitted[/green]" if row["admitted"] else "[bold red]not admitted[/bold red]"
    console.print(f"[bold]{row['target']}[/bold]  {state}")
    if not row["clean_passes"]:
        console.print("    [bold red]right results are objected to[/bold red]")
    for fault, noticed in row["controls"].items():
        console.print(f"    {'[green]fails[/green] ' if noticed else '[bold red]PASSES[/bold red]'}  {escape(fault)}")


def load_suite() -> ModuleType:
    """The module tests/exploits/suite.py. Raises LabError where the tests are not there, as in an installed package."""
    if not SUITE.is_file():
        raise LabError(f"the kernels that are tried lie in a checkout of the project; there is no {SUITE}")
    spec = importlib.util.spec_from_file_location("kernel_lab_exploit_suite", SUITE)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = {
    "exploits": click.command(
        "exploits",
        help="Run the collected cheats and honest oddities through the verifier (all, or those named) and print what "
        "was caught, missed and wrongly rejected. Exit code 1 where something was missed or wrongly rejected. "
        "Needs a checkout.",
    )(click.argument("names", nargs=-1)(verb(exploits))),
    "controls": click.command(
        "controls",
        help="Plant faults into right results of every target: each must be noticed, or the target proves nothing. "
        "Exit code 1 where one was not. Needs a checkout.",
    )(
        click.option("--target", help="Only this target.")(
            click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of the inputs.")(
                verb(controls)
            )
        )
    ),
}
