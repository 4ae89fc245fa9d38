"""Verbs `ab` (long name `integration-ab`) and `integration-suite`: a kernel's trial in the trainer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
from rich.console import Console

from autoresearch_lab.ab import run as ab_run
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.ab.suite import suite_verdict
from autoresearch_lab.ab.table import render
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import DATASET, FOREIGN_LIMIT, LENGTH, PRESET, PresetName, names
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.subject import KernelWords, choose_all, kernel_arguments
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import default_preset, newest_ab
from autoresearch_lab.promote.selection import Selection, baseline, resolve
from autoresearch_lab.results.ab import CompileChoice
from autoresearch_lab.results.base import Dataset, Mode
from autoresearch_lab.results.note import SuiteResults, SuiteSettings
from autoresearch_lab.results.record import AbRecord, SuiteRecord


def ab(session: Session, *, preset: str | None, **options: Any) -> VerbResult:
    chosen = preset or default_preset(session.lab)
    record = TrialRequest(session, **options).on(chosen)
    data = {"verdict": record.verdict, "record": record.id, **record.plain()}
    return VerbResult(data, lambda console: render(record, console), positive=record.verdict == "PROMOTE")


def suite(session: Session, *, presets: str, **options: Any) -> VerbResult:
    chosen = names(presets)
    if not chosen:
        raise LabError("integration-suite: --presets needs one or more names")
    for name in chosen:
        PresetName().convert(name, None, None)
    trial = TrialRequest(session, **options)
    records = {name: trial.on(name) for name in chosen}
    verdict, reason = suite_verdict(records)
    session.lab.ledger.append(
        SuiteRecord,
        **session.lab.context.fields(),
        settings=SuiteSettings(event="suite", presets={name: record.id for name, record in records.items()}),
        results=SuiteResults(verdict=verdict, reason=reason),
    )
    data = {"verdict": verdict, "reason": reason, "presets": {name: record.plain() for name, record in records.items()}}

    def show(console: Console) -> None:
        for record in records.values():
            render(record, console)
        console.print(f"{verdict}  {reason}", style="bold")

    return VerbResult(data, show, positive=verdict == "PROMOTE")


class TrialRequest:
    """The candidate, the other arm and the rule that the options name; checked before anything is measured."""

    def __init__(
        self,
        session: Session,
        *,
        named: list[KernelWords],
        against: str,
        dataset: str,
        again: bool,
        compile_mode: CompileChoice | None,
        **lengths: Any,
    ) -> None:
        self.session, self.dataset, self.again = session, dataset, again
        base = Settings.for_device(session.lab.engine.device)
        if compile_mode is not None:
            base = replace(base, compile=compile_mode)
        self.settings = replace(base, **lengths)
        self.catalog = load_catalog(session.lab.root)
        self.candidate = choose_all(named, session)
        # Bad input is answered before the machine is asked who it is.
        self.data = ab_run.describe_dataset(session.lab.root, dataset)
        self.against: Selection = resolve(against, self.catalog, session.lab.context, session.lab.root)
        if self.settings.compile != "auto":
            mode: Mode = "compiled" if self.settings.compile == "on" else "eager"
            self.against = self.against.in_mode(mode, baseline(self.catalog, session.lab.engine))
        ab_run.check_new(self.candidate, self.against)

    def on(self, preset: str) -> AbRecord:
        """The A/B with that preset: the one in the ledger if it was run with the same arms, else a new one."""
        session = self.session
        known = None if self.again else self._known(preset)
        if known is not None:
            session.log.print(f"already decided (record {known.id[:12]}); --again measures anew")
            return known
        for remark in self.against.remarks:
            session.log.print(f"note: {remark}")
        with progress(session.log, session.verb, session.status) as show:
            return ab_run.ab(
                self.candidate,
                self.against,
                session.lab,
                preset=preset,
                dataset=self.dataset,
                settings=self.settings,
                on_progress=show,
            )

    def _known(self, preset: str) -> AbRecord | None:
        record = newest_ab(
            self.candidate,
            self.catalog,
            self.session.lab,
            preset=preset,
            dataset=Dataset(name=self.data["name"], fingerprint=self.data["fingerprint"]),
            baseline=self.against.recorded(),
        )
        if record is None or record.settings.rule is None:
            return None
        rule, asked = record.settings.rule.model_dump(), self.settings.plain()
        return record if all(rule[key] == asked[key] for key in asked if key != "alpha") else None


_KERNELS = kernel_arguments(most=None)
_COMMON = (
    click.option("--against", default="promoted", show_default=True,
                 help="The other arm: promoted, baseline, or target=kernel,..."),
    DATASET,
    *LENGTH,
    FOREIGN_LIMIT,
    click.option("--compile", "compile_mode", type=click.Choice(["auto", "on", "off"]),
                 help="auto: each arm in its faster mode, found by measurement; on, off: both compiled, or neither "
                      "[default: what train.py does here]."),
    click.option("--again", is_flag=True, help="Measure anew although the ledger has a verdict."),
)  # fmt: skip
_HELP = (
    "Try verified, faster kernels in the trainer, several of them jointly: speed, loss at equal tokens, loss at equal "
    "time. Exit code 0 = PROMOTE, 1 = REJECT or UNDECIDED."
)

COMMANDS = {
    **{name: command(name, ab, _HELP, _KERNELS, PRESET, *_COMMON) for name in ("ab", "integration-ab")},
    "integration-suite": command(
        "integration-suite",
        suite,
        "The A/B with several presets: PROMOTE where one gains and none is worse.",
        _KERNELS,
        click.option("--presets", required=True, metavar="A,B", help="Presets to train, by comma."),
        *_COMMON,
    ),
}
