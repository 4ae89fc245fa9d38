"""Verb `bench`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from autoresearch_lab.bench.rule import FASTER, Rule
from autoresearch_lab.bench.run import BUDGET_SECONDS, bench
from autoresearch_lab.bench.table import render
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.numbers import FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.engine import lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.workloads import WorkloadSet


def run(
    session: Session, *, workspace: Path | None, target: str | None, kernel: str | None, budget: float,
    looks: str | None, compiled_arm: bool | None, seed: int | None,
) -> Outcome:  # fmt: skip
    rule = _rule(looks)
    subject, candidate, workload_set = _subject(session, workspace, target, kernel)
    folder = session.lab.root.runs / f"bench-{subject.name}-{secrets.token_hex(4)}"
    with progress(session.log) as show:
        record = bench(
            candidate,
            subject,
            workload_set,
            session.lab,
            budget_seconds=budget,
            seed=seed,
            run_dir=folder,
            rule=rule,
            compiled_arm=compiled_arm,
            on_progress=_staged(show),
        )
    data: dict[str, Any] = {"verdict": record.verdict, "record": record.id, **record.plain()}
    return Outcome(data, lambda console: render(record, console), positive=record.verdict == FASTER)


def _subject(
    session: Session, workspace: Path | None, target: str | None, kernel: str | None
) -> tuple[Target, Kernel, WorkloadSet]:
    """What is to be timed, from a workspace or from the catalogue.

    Raises:
        LabError: neither or both were named, or one of them does not exist.
    """
    if workspace is not None and (target or kernel):
        raise LabError("bench: give --workspace, or --target and --kernel, not both")
    if workspace is not None:
        from autoresearch_lab.workspace import open_workspace

        opened = open_workspace(workspace, session.lab)
        if lacks_gpu(opened.kernel.language):
            raise LabError(
                f"bench: {opened.kernel.path} is written in {opened.kernel.language}: nothing is timed without its GPU"
            )
        opened.require_engine(session.lab.engine.name, "bench")
        return opened.target, opened.kernel, opened.workloads
    if not (target and kernel):
        raise LabError("bench: give --workspace DIR, or --target T and --kernel NAME")
    from autoresearch_lab.profile import ensure_workloads

    found = find_target(load_catalog(session.lab.root), target)
    chosen = found.kernel(kernel, session.lab.engine.framework)
    if not chosen.runs_on(session.lab.engine.framework, session.lab.engine.device):
        raise LabError(f"bench: {target}/{kernel} {chosen.obstacle(session.lab.engine.device)}")
    return found, chosen, ensure_workloads(found, session.lab)


def _rule(looks: str | None) -> Rule:
    """The rule with other looks. Raises LabError for anything but rising numbers of at least two processes."""
    if looks is None:
        return Rule()
    words = looks.split(",")
    numbers = tuple(int(word) for word in words if word.strip().isdigit())
    if len(numbers) != len(words) or list(numbers) != sorted(set(numbers)) or numbers[0] < 2:
        raise LabError(f"bench: --looks {looks}: use rising numbers of processes, at least 2, such as 4,6,8")
    return Rule(looks=numbers)


def _staged(show: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """The job's messages as progress: one stage per process."""

    def listen(message: dict[str, Any]) -> None:
        stage = f"process {message['process'] + 1}"
        if message.get("stage") == "round":
            show({"stage": stage, "done": message["done"]})
        else:
            show({"stage": stage})

    return listen


_OPTIONS = (
    click.option("--workspace", type=click.Path(path_type=Path), help="Workspace whose kernel.py is timed."),
    click.option("--target", help="Target of a kernel in the catalogue."),
    click.option("--kernel", help="Name of that kernel."),
    click.option(
        "--budget",
        type=FiniteRange(min=1.0, max=3600.0),
        default=BUDGET_SECONDS,
        show_default=True,
        help="Seconds after which no further process is started.",
    ),
    click.option("--looks", help="After how many processes the data are looked at, fixed beforehand [default: 4,6,8]."),
    click.option(
        "--compiled-arm/--no-compiled-arm",
        default=None,
        help="Time the baseline through torch.compile as well [default: on a GPU].",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Of inputs and orders [default: drawn]."),
)

_command = verb(run)
for _option in reversed(_OPTIONS):
    _command = _option(_command)

COMMANDS = {
    "bench": click.command(
        "bench",
        help="Time a verified kernel against the baseline and the library, and say whether it is faster for sure.",
    )(_command)
}
