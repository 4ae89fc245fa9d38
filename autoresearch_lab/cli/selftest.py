"""Verbs `exploits` and `controls`: does the verifier catch what it must, and only that?"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.text import Text

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command, nearest
from autoresearch_lab.cli.options import SEED, Count
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root
from autoresearch_lab.verify import exploits as collected
from autoresearch_lab.verify.controls import controls as plant_controls
from autoresearch_lab.verify.exploits import ExploitResult
from autoresearch_lab.verify.small import small_workloads

BAD = ("missed", "wrongly rejected")
COLOURS = {"caught": "green", "passed": "green", "missed": "bold red", "wrongly rejected": "bold red"}
NO_FAULT = "none"  # the control in which nothing is planted


def exploits(session: Session, *, names: tuple[str, ...], honest: bool, seeds: int) -> VerbResult:
    known = {case.name for case in collected.cases()}
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = nearest(unknown[0], known, f"they lie in {collected.FOLDER}")
        raise LabError(f"exploits: no kernel is called '{unknown[0]}'; {hint}")
    show = lambda result: None if session.as_json else _show_exploit(result, session.out)  # noqa: E731
    results = collected.judge(set(names), show, honest=honest, seeds=seeds)
    counts = Counter(result.outcome for result in results)
    data = {"rows": [result.plain() for result in results], "counts": dict(counts)}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    good = not any(counts[outcome] for outcome in BAD)
    return VerbResult(data, lambda console: console.print(f"\n{summary}"), good)


def _show_exploit(result: ExploitResult, console: Console) -> None:
    """One line as soon as it is known: the whole takes minutes."""
    colour = COLOURS.get(result.outcome, "yellow")
    check = result.failed_check or ("-" if result.expected is None else f"({result.expected})")
    rest = f" {check:17} {result.seconds:5.1f} s"
    console.print(Text.assemble(f"{result.name:30} ", (f"{result.outcome:23}", colour), rest), soft_wrap=True)
    if result.outcome not in ("caught", "passed"):
        console.print(f"    seed {result.seed}: {result.reason}", style="dim", soft_wrap=True)


@dataclass(frozen=True)
class ControlsOfTarget:
    """The faults that were planted into a target's results: was each noticed, and did the right results pass?"""

    target: str
    clean_passes: bool
    controls: dict[str, bool]
    admitted: bool


def controls(session: Session, *, target: str | None, seed: int) -> VerbResult:
    catalog = load_catalog(Root())
    chosen = [find_target(catalog, target)] if target else list(catalog.values())
    rows = []
    for one in chosen:
        found = plant_controls(one, small_workloads(one, "cpu"), seed)
        clean = found.pop(NO_FAULT)
        rows.append(ControlsOfTarget(one.name, clean, found, clean and all(found.values())))
        if not session.as_json:
            _show_controls(rows[-1], session.out)
    planted = sum(len(row.controls) for row in rows)
    missed = sum(not noticed for row in rows for noticed in row.controls.values())
    summary = f"{planted} faults planted into {len(rows)} targets, {missed} of them not noticed."
    data = {"targets": [asdict(row) for row in rows]}
    return VerbResult(data, lambda console: console.print(f"\n{summary}"), all(row.admitted for row in rows))


def _show_controls(row: ControlsOfTarget, console: Console) -> None:
    state = ("admitted", "green") if row.admitted else ("not admitted", "bold red")
    console.print(Text.assemble((row.target, "bold"), "  ", state))
    if not row.clean_passes:
        console.print("    right results are objected to", style="bold red")
    for fault, noticed in row.controls.items():
        console.print(Text.assemble("    ", ("fails ", "green") if noticed else ("PASSES", "bold red"), f"  {fault}"))


COMMANDS = {
    "exploits": command(
        "exploits",
        exploits,
        "Run the collected cheats and honest oddities through the verifier (all, or those named) and print what "
        "was caught, missed and wrongly rejected. Exit code 1 where something was missed or wrongly rejected. "
        "Needs a checkout.",
        click.argument("names", nargs=-1),
        click.option("--honest", is_flag=True, help="Only honest kernels, none of which may be rejected."),
        click.option("--seeds", type=Count(min=1), default=1, show_default=True, help="Drawn calls for each."),
    ),
    "controls": command(
        "controls",
        controls,
        "Plant faults into right results of every target: each must be noticed, or the target proves nothing. "
        "Exit code 1 where one was not.",
        click.option("--target", help="Only this target."),
        click.option("--seed", type=SEED, default=7, show_default=True, help="Of the inputs."),
    ),
}
