"""Verb `bench`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.bench.rule import BUDGET_SECONDS, FASTER, Rule
from autoresearch_lab.bench.run import bench
from autoresearch_lab.bench.table import render
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import SEED, FiniteRange
from autoresearch_lab.cli.progress import Message, progress
from autoresearch_lab.cli.subject import KernelWords, choose, kernel_arguments
from autoresearch_lab.engine import lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.jobs import running
from autoresearch_lab.profile import ensure_workloads


def run(session: Session, *, named: list[KernelWords], rule: Rule, **options: Any) -> VerbResult:
    chosen = choose(named[0], session)
    if chosen.workspace is None:
        workloads = ensure_workloads(chosen.target, session.lab)
    elif lacks_gpu(chosen.kernel.language):
        path, language = chosen.kernel.path, chosen.kernel.language
        raise LabError(f"bench: {path} is written in {language}: nothing is timed without its GPU")
    else:
        workloads = chosen.workspace.workloads
    folder = session.lab.root.runs / f"bench-{chosen.target.name}-{secrets.token_hex(4)}"
    with progress(session.log, session.verb, session.status) as show, running(folder) as run_dir:
        record = bench(
            chosen.kernel,
            chosen.target,
            workloads,
            session.lab,
            run_dir=run_dir,
            rule=rule,
            on_progress=partial(_show, session.log, show),
            **options,
        )
    data = {"verdict": record.verdict, "record": record.id, **record.plain()}
    return VerbResult(data, lambda console: render(record, console), positive=record.verdict == FASTER)


def _show(log: Console, show: Callable[[Message], None], message: Message) -> None:
    """What is going on; and, as soon as it is known, how long it will take."""
    if "expected" in message:
        log.print(f"bench takes about {message['expected']:.0f} s, more if its first look does not decide", style="dim")
    else:
        show(message)


def _rule(looks: str | None) -> Rule:
    """The rule with other looks. Raises LabError for anything but rising numbers of at least two processes."""
    if looks is None:
        return Rule()
    words = looks.split(",")
    numbers = tuple(int(word) for word in words if word.strip().isdigit())
    if len(numbers) != len(words) or list(numbers) != sorted(set(numbers)) or numbers[0] < 2:
        raise LabError(f"bench: --looks {looks}: use rising numbers of processes, at least 2, such as 4,8,16")
    return Rule(looks=numbers)


def budget_option(help: str, default: float | None = BUDGET_SECONDS) -> Any:
    """--budget of a verb that measures by the bench's rule."""
    return click.option(
        "--budget",
        "budget_seconds",
        type=FiniteRange(min=1.0, max=3600.0),
        default=default,
        show_default=default is not None,
        help=help,
    )


COMMANDS = {
    "bench": command(
        "bench",
        run,
        "Time a verified kernel against the baseline and the library, and say whether it is faster for sure. Exit "
        "code 0 = FASTER.",
        kernel_arguments(),
        budget_option(
            "Seconds after which no further process is started. The first look is always taken; how long it takes is "
            "printed after its first process."
        ),
        click.option(
            "--looks",
            "rule",
            callback=lambda ctx, param, looks: _rule(looks),  # before it waits for the device
            help="After how many processes the data are looked at, fixed beforehand [default: 4,8,16].",
        ),
        click.option(
            "--compiled-arm/--no-compiled-arm",
            default=None,
            help="Time through torch.compile as well [default: on a GPU; on a CPU where the trainer compiles it].",
        ),
        click.option("--seed", type=SEED, help="Of inputs and orders [default: drawn]."),
    )
}
