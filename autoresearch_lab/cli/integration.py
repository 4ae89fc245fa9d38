"""Verbs `ab` (long name `integration-ab`) and `integration-suite`: a kernel's trial in the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.ab import run as ab_run
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.ab.suite import suite_verdict
from autoresearch_lab.ab.table import render
from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.numbers import FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.presets import require_presets
from autoresearch_lab.promote.check import ab_of
from autoresearch_lab.promote.selection import Selection, parse_choice, resolve
from autoresearch_lab.records import Record


def ab(session: Session, *, preset: str | None, **options: Any) -> Outcome:
    chosen = preset or session.lab.engine.default_preset
    require_presets(chosen)
    record = _Request(session, **options).on(chosen)
    data = {"verdict": record.verdict, "record": record.id, **record.plain()}
    return Outcome(data, lambda console: render(record, console), positive=record.verdict == "PROMOTE")


def suite(session: Session, *, presets: str, **options: Any) -> Outcome:
    names = list(dict.fromkeys(name.strip() for name in presets.split(",") if name.strip()))
    if not names:
        raise LabError("integration-suite: --presets needs one or more names")
    require_presets(*names)
    trial = _Request(session, **options)
    records = {name: trial.on(name) for name in names}
    verdict, reason = suite_verdict(records)
    session.lab.ledger.append(
        "note",
        **session.lab.context.fields(),
        settings={"event": "suite", "presets": {name: record.id for name, record in records.items()}},
        results={"verdict": verdict, "reason": reason},
    )
    data = {"verdict": verdict, "reason": reason, "presets": {name: record.plain() for name, record in records.items()}}

    def show(console: Console) -> None:
        for record in records.values():
            render(record, console)
        console.print(f"{verdict}  {reason}", style="bold")

    return Outcome(data, show, positive=verdict == "PROMOTE")


class _Request:
    """The candidate, the other arm and the rule that the options name; checked before anything is measured."""

    def __init__(
        self,
        session: Session,
        *,
        workspace: Path | None,
        kernels: tuple[str, ...],
        against: str,
        dataset: str,
        again: bool,
        steps: int,
        race_seconds: float,
        foreign_limit: float,
        compile_mode: str | None,
    ) -> None:
        self.session, self.dataset, self.again = session, dataset, again
        base = Settings.for_device(session.lab.engine.device)
        if compile_mode is not None:
            base = replace(base, compile=compile_mode == "on")
        self.settings = replace(base, steps=steps, race_seconds=race_seconds, foreign_limit=foreign_limit)
        self.catalog = load_catalog(session.lab.root)
        self.candidate = candidates(session, workspace, kernels)
        # Bad input is answered before the machine is asked who it is.
        self.data = ab_run.describe_dataset(session.lab.root, dataset)
        self.against: Selection = resolve(against, self.catalog, session.lab.context, session.lab.root)
        ab_run.check_new(self.candidate, self.against)

    def on(self, preset: str) -> Record:
        """The A/B with that preset: the one in the ledger if it was run with the same arms, else a new one."""
        session = self.session
        known = None if self.again else self._known(preset)
        if known is not None:
            session.log.print(f"already decided (record {known.id[:12]}); --again measures anew")
            return known
        for remark in self.against.remarks:
            session.log.print(f"note: {remark}")
        with progress(session.log) as show:
            return ab_run.ab(
                self.candidate,
                self.against,
                session.lab,
                preset=preset,
                dataset=self.dataset,
                settings=self.settings,
                on_progress=_whole(show),
            )

    def _known(self, preset: str) -> Record | None:
        dataset = {key: self.data[key] for key in ("name", "fingerprint")}
        same = {"preset": preset, "dataset": dataset, "baseline": self.against.hashes()}
        record = ab_of(self.candidate, self.catalog, self.session.lab, **same)
        if record is None or (record.results or {}).get("disturbed"):
            return None
        rule = (record.settings or {}).get("rule") or {}
        asked = self.settings.plain()
        return record if all(rule.get(key) == asked[key] for key in asked if key != "alpha") else None


def candidates(session: Session, workspace: Path | None, kernels: tuple[str, ...]) -> dict[str, Kernel]:
    """The kernels that --workspace or --kernel name, by target.

    Raises:
        LabError: neither or both were given, a target was named twice, or one of them does not exist.
    """
    if (workspace is None) == (not kernels):
        raise LabError("give --workspace DIR, or --kernel TARGET=NAME (may repeat)")
    if workspace is not None:
        from autoresearch_lab.workspace import open_workspace

        opened = open_workspace(workspace.expanduser(), session.lab)
        if opened.engine_name != session.lab.engine.name:
            raise LabError(f"{opened.folder} is for engine {opened.engine_name}; use: --engine {opened.engine_name}")
        return {opened.target.name: opened.kernel}
    catalog = load_catalog(session.lab.root)
    chosen = [parse_choice(text, catalog, session.lab.engine) for text in kernels]
    if len({kernel.target for kernel in chosen}) != len(chosen):
        raise LabError("--kernel names a target twice")
    return {kernel.target: kernel for kernel in chosen}


def _whole(show: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Progress in whole numbers: a race counts seconds."""

    def listen(message: dict[str, Any]) -> None:
        counts = {key: round(message[key]) for key in ("done", "total") if message.get(key) is not None}
        show({**message, **counts})

    return listen


_DEFAULT = Settings()
# How much an A/B measures; `orchestrate` has these too.
LENGTH = (
    click.option("--steps", type=click.IntRange(min=2), default=_DEFAULT.steps, show_default=True,
                 help="Optimizer steps of the fixed-token trainings."),
    click.option("--race-seconds", type=FiniteRange(min=0.1), default=_DEFAULT.race_seconds, show_default=True,
                 help="Undisturbed measuring time of each of the processes."),
)  # fmt: skip
_COMMON = (
    click.option("--workspace", type=click.Path(path_type=Path), help="Workspace whose kernel.py is tried."),
    click.option(
        "--kernel", "kernels", multiple=True, metavar="TARGET=NAME", help="Kernel of the catalogue; several = jointly."
    ),
    click.option("--against", default="promoted", show_default=True,
                 help="The other arm: promoted, baseline, or target=kernel,..."),
    click.option("--dataset", default="stdlib", show_default=True, help="Prepared dataset to train on."),
    *LENGTH,
    click.option("--foreign-limit", type=FiniteRange(0.0, 1.0), default=_DEFAULT.foreign_limit, show_default=True,
                 help="Share of the cores that other processes may use."),
    click.option("--compile", "compile_mode", type=click.Choice(["on", "off"]),
                 help="Train both arms compiled [default: on for a GPU, else off]."),
    click.option("--again", is_flag=True, help="Measure anew although the ledger has a verdict."),
)  # fmt: skip


def _command(name: str, function: Callable[..., Outcome], help_text: str, *own: Any) -> click.Command:
    callback = verb(function)
    for option in reversed((*_COMMON[:2], *own, *_COMMON[2:])):
        callback = option(callback)
    return click.command(name, help=help_text)(callback)


_PRESET = click.option("--preset", help="What to train [default: the engine's smallest].")
_HELP = (
    "Try a verified, faster kernel in the trainer: speed, loss at equal tokens, loss at equal time. "
    "Exit code 0 = PROMOTE, 1 = REJECT or UNDECIDED."
)

COMMANDS = {
    "ab": _command("ab", ab, _HELP, _PRESET),
    "integration-ab": _command("integration-ab", ab, _HELP, _PRESET),
    "integration-suite": _command(
        "integration-suite",
        suite,
        "The A/B with several presets: PROMOTE where one gains and none is worse.",
        click.option("--presets", required=True, metavar="A,B", help="Presets to train, by comma."),
    ),
}
