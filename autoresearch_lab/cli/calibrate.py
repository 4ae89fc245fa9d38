"""Verb `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoresearch_common.files import write_atomic
from autoresearch_lab.bench.rule import BUDGET_SECONDS
from autoresearch_lab.calibrate.counting import BROKEN
from autoresearch_lab.calibrate.plan import Plan
from autoresearch_lab.calibrate.run import Calibration
from autoresearch_lab.calibrate.table import markdown, render
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import FOREIGN_LIMIT, PATH, Count, DatasetName, FiniteRange, PresetName, names
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import default_preset

TARGETS = "relu_squared,rms_norm,rope,residual_mix,adamw_update"
AB_TARGETS = "relu_squared,softcap_cross_entropy"
_DEFAULT = Plan(("relu_squared",), ("relu_squared",), "cpu-nano")


def run(
    session: Session, *, targets: str, ab_targets: str, preset: str | None, effects: str, budget_seconds: float | None,
    write: Path | None, **numbers: Any,
) -> VerbResult:  # fmt: skip
    plan = Plan(
        targets=_names(targets, "--targets"),
        ab_targets=_names(ab_targets, "--ab-targets"),
        preset=preset or default_preset(session.lab),
        effects=_effects(effects),
        **numbers,
    )
    page = _page(write)
    calibration = Calibration(plan, session.lab)
    with progress(session.log, session.verb, session.status) as show:
        calibration.on_progress = show
        calibration.log = session.say
        report = calibration.run(budget_seconds)
    if page is not None:
        write_atomic(page, markdown(report))
    broken = any(promise.state == BROKEN for promise in report.promises)
    return VerbResult(
        report.recorded().model_dump(mode="json"), lambda console: render(report, console), positive=not broken
    )


def _names(text: str, option: str) -> tuple[str, ...]:
    found = names(text)
    if not found:
        raise LabError(f"calibrate: {option} needs one or more targets")
    return found


def _effects(text: str) -> tuple[float, ...]:
    """Shares from percentages by comma; empty for "none"."""
    if text.strip() == "none":
        return ()
    try:
        return tuple(dict.fromkeys(float(part) / 100 for part in text.split(",")))
    except ValueError:
        raise LabError(f"calibrate: cannot read --effects '{text}'; use percentages by comma, or none") from None


def _page(path: Path | None) -> Path | None:
    """Where the page will be written, refused before anything is measured."""
    if path is None:
        return None
    page = path.expanduser()
    if page.suffix.lower() != ".md" or page.is_dir() or not page.resolve().parent.is_dir():
        raise LabError(f"calibrate: --write needs a file name that ends in .md in a folder that exists, not {path}")
    return page


_COUNT = Count(min=0)
_HELP = (
    "Measure how often the verdicts are wrong here, with planted kernels of known effect. "
    "Every trial is kept: stopped at any time, the next call goes on. Exit code 1 where a promise is broken."
)
_OPTIONS = (
    click.option("--targets", default=TARGETS, show_default=True, help="Targets of the bench trials, by comma."),
    click.option("--ab-targets", default=AB_TARGETS, show_default=True, help="Targets of A/B and verify trials."),
    click.option("--preset", type=PresetName(), help="What is trained and captured [default: the engine's smallest]."),
    click.option("--dataset", type=DatasetName(), default=_DEFAULT.dataset, show_default=True,
                 help="Prepared dataset to train on."),
    click.option("--trials", type=_COUNT, default=_DEFAULT.trials, show_default=True, help="Nulls in bench."),
    click.option("--effects", default="1,2,3,5,10", show_default=True, help="Planted effects in percent, or none."),
    click.option("--effect-trials", type=_COUNT, default=_DEFAULT.effect_trials, show_default=True,
                 help="Trials per effect, for faster and for slower each."),
    click.option("--ab-trials", type=_COUNT, default=_DEFAULT.ab_trials, show_default=True, help="Nulls in the A/B."),
    click.option("--harm-trials", type=_COUNT, default=_DEFAULT.harm_trials, show_default=True,
                 help="Per planted harm, in verify and in the A/B each; as many honest kernels beside them."),
    click.option("--bench-seconds", type=FiniteRange(min=1.0), default=BUDGET_SECONDS, show_default=True,
                 help="Budget of one bench."),
    click.option("--library/--no-library", default=True, show_default=True,
                 help="Time the library's kernels along, as bench does; they do not enter the verdict."),
    click.option("--race-seconds", type=FiniteRange(min=0.1), default=_DEFAULT.race_seconds, show_default=True,
                 help="Measuring time of each process of an A/B."),
    click.option("--steps", type=Count(min=2), default=_DEFAULT.steps, show_default=True,
                 help="Optimizer steps of the A/B's trainings."),
    FOREIGN_LIMIT,
    click.option("--budget-seconds", type=FiniteRange(min=0.0),
                 help="Stop in time; 0 shows what the ledger holds [default: until all trials are made]."),
    click.option("--write", type=PATH, metavar="FILE.md", help="Also write the table as a page."),
)  # fmt: skip

COMMANDS = {"calibrate": command("calibrate", run, _HELP, *_OPTIONS)}
