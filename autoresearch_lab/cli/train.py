"""`train.py`: one training run of the chosen engine, with the kernels that were asked for."""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from autoresearch_common.reading import read_json
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_lab.cli.app import complain, run_guarded, words
from autoresearch_lab.cli.options import PATH, Count, DatasetName, PresetName
from autoresearch_lab.device_lock import hold
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.lookup import unfounded
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.transaction import settle
from autoresearch_lab.runs_table import SMOKE_RUN, append_run, check_table
from autoresearch_lab.training import Training, plan_training, trainer_engine
from autoresearch_lab.training_progress import TrainingProgress
from autoresearch_trainer.config import parse_changes, preset
from autoresearch_trainer.console import Console
from autoresearch_trainer.loop import CHECKPOINT_FOLDER, RUN_FILE, run
from autoresearch_trainer.plan import Request
from autoresearch_trainer.record import Event
from autoresearch_trainer.rung_report import rung_lines, rung_report
from autoresearch_trainer.sampling import parse_rate
from autoresearch_trainer.saver import Interval


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--engine", default="auto", show_default=True, help="auto, cpu, cuda, mlx or mps.")
@click.option("--preset", type=PresetName(), help="Model and batch [default: what suits this hardware].")
@click.option("--time-budget", type=float, help="Seconds of training (300 where no --steps is given).")
@click.option("--steps", type=Count(1), default=None, help="Train that many optimizer steps instead.")
@click.option("--seed", type=int, default=None, help="[default: 42]")
@click.option("--kernels", default=None, help="baseline, promoted, or target=kernel,... [default: what is promoted].")
@click.option("--dataset", type=DatasetName(), help="A dataset that prepare.py has made [default: the one there is].")
@click.option("--data-dir", type=PATH, help="Folder of the datasets [default: $AUTORESEARCH_DATA, else data].")
@click.option("--batch-size", type=Count(1), default=None, help="Sequences per pass [default: fitted to the memory].")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change an option of the preset, such as depth=6 or matrix_lr=0.03; may be given more than once.",
)
@click.option("--eval", "evaluation", default=None, help="cheap, reference or full [default: the preset's].")
@click.option("--eval-tokens", type=Count(1), default=None, help="Exactly that many validation tokens instead.")
@click.option("--compile", "compile_mode", default="auto", show_default=True, help="auto, on or off.")
@click.option("--check-kernels", metavar="SHARE", help="Have the baseline compute that share of calls too, such as 1%.")
@click.option("--smoke", is_flag=True, help="Two small steps and a small evaluation: does everything work here?")
@click.option(
    "--out",
    type=PATH,
    default=None,
    help="Folder of run.json; an earlier one there is replaced [default: runs/last, or runs/smoke].",
)
@click.option("--save-weights", is_flag=True, help="Also write weights.safetensors there.")
@click.option(
    "--checkpoint/--no-checkpoint", default=None, help="Save at the end too, or never [default: when interrupted]."
)
@click.option("--checkpoint-every", metavar="N", help="Also save every N seconds, or every Nsteps, in the background.")
@click.option("--resume", type=PATH, default=None, help="Continue from a checkpoint folder.")
@click.option(
    "--results",
    type=PATH,
    default=None,
    help="Table of runs to append to [default: runs/results.tsv; none with --smoke].",
)
@click.option("--description", default="", help="What this run tries, for that table and run.json.")
@click.option("--print-config", is_flag=True, help="Show what would be trained, and why; train nothing.")
@click.option("--eval-rungs", "rungs", type=PATH, default=None, help="Evaluate these weights on every rung instead.")
@click.option("--wait", is_flag=True, help="Wait while others measure on this device.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout, all else on stderr.")
@click.option("--root", type=PATH, default=CHECKOUT, hidden=True)
def train(**options: Any) -> None:
    """Train the model once and print the summary. Exit code: 0 trained, 1 training failed, 2 bad input, 130 or 143
    interrupted."""
    root = Root(options["root"].expanduser().resolve())
    remarks = [ended] if (ended := settle(Lab(root))) is not None else []
    with suppress(LabError):  # training waits for nobody who writes to the ledger
        remarks += unfounded(root, Ledger(root.ledger, hurried=True))
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    options["resume"] = _checkpoint(options["resume"])
    training = _plan(root, options)
    for remark in training.selection.remarks:
        print(f"note: {remark}", file=sys.stderr)
    if options["print_config"]:
        _print(training.plain(), training.lines(), options["as_json"])
    elif options["rungs"] is not None:
        _evaluate_rungs(training, options)
    else:
        tell = partial(print, file=sys.stderr)
        with hold(training.engine.device, "train.py", shared=True, wait=options["wait"], tell=tell):
            _run(training, root, options)


def _plan(root: Root, options: dict[str, Any]) -> Training:
    if options["changes"] and options["resume"]:
        raise LabError("a resumed run keeps its configuration: give --set or --resume, not both")
    request = Request(
        preset=options["preset"],
        time_budget=options["time_budget"],
        steps=options["steps"],
        batch_size=options["batch_size"],
        evaluation=options["evaluation"],
        eval_tokens=options["eval_tokens"],
        compile=options["compile_mode"],
        smoke=options["smoke"],
        resume=options["resume"],
        changes=parse_changes(options["changes"]) | ({} if options["seed"] is None else {"seed": options["seed"]}),
    )
    return plan_training(
        root,
        engine_name=options["engine"],
        kernels=options["kernels"],
        dataset=options["dataset"],
        data_dir=options["data_dir"],
        request=request,
    )


def _run(training: Training, root: Root, options: dict[str, Any]) -> None:
    every = options["checkpoint_every"]
    interval = Interval.parse(every) if every else None
    share = options["check_kernels"]
    check_rate = parse_rate(share) if share is not None else None
    if every and options["checkpoint"] is False:
        raise LabError("give --checkpoint-every or --no-checkpoint, not both")
    # A smoke run tries whether training works at all; among those that are compared it would only mislead.
    table = options["results"] or (None if options["smoke"] else root.path / "runs" / "results.tsv")
    if table:
        check_table(table)
    out, resume = options["out"], options["resume"]
    if out is None:
        out, resume = _default_folder(root, smoke=options["smoke"], resume=resume)
    last: dict[str, Any] = {}
    engine, device = trainer_engine(training.engine), training.engine.device
    progress = TrainingProgress(out, lambda: engine.peak_memory_mb(device))
    with Console(sys.stderr if options["as_json"] else sys.stdout) as console:

        def report(event: Event) -> None:
            if event["event"] == "start" or event["event"] == "summary":
                last.update(dict(event["record"]))
            progress(event)
            console(event)

        try:
            record = run(
                engine,
                training.config,
                training.selection.plain(),
                training.dataset,
                out,
                report,
                device=device,
                weights=options["save_weights"],
                checkpoint=bool(options["checkpoint"]),
                save_interrupted=options["checkpoint"] is None,
                checkpoint_every=interval,
                resume=resume,
                choices=training.choices,
                ceiling=training.ceiling,
                check_rate=check_rate,
                description=options["description"],
            )
        except BaseException as error:
            written = _written(out / RUN_FILE) if last else {}  # it had begun
            if last:
                progress.end({**last, **written})
            if table and last:
                append_run(table, {**last, **written}, options["description"], root.path)
            if options["as_json"]:
                why = {"error": " ".join(str(error).split()) or type(error).__name__}
                print(json.dumps({"status": "failed", **why, **written}, indent=1, allow_nan=False))
            raise
    progress.end(record)
    if options["as_json"]:
        print(json.dumps(record, indent=1, allow_nan=False))
    if table:
        append_run(table, record, options["description"], root.path)


def _checkpoint(resume: Path | None) -> Path | None:
    """The folder of a checkpoint; that of a run stands for the one in it."""
    inside = resume / CHECKPOINT_FOLDER if resume is not None else None
    return inside if inside is not None and inside.is_dir() else resume


def _default_folder(root: Root, *, smoke: bool, resume: Path | None) -> tuple[Path, Path | None]:
    """(runs/last, the checkpoint). What an earlier run left there, unless it was interrupted and is resumed, is moved
    to a folder that is named by the time of its end, and said so. For a smoke run runs/smoke.

    Raises:
        LabError: it cannot be moved.
    """
    if smoke:
        return root.path / "runs" / SMOKE_RUN, resume
    last = root.path / "runs" / "last"
    inside = resume is not None and resume.resolve().is_relative_to(last.resolve())
    goes_on = inside and _written(last / RUN_FILE).get("status") != "complete"
    if (last / RUN_FILE).is_file() and not goes_on:
        name = time.strftime("%Y%m%d-%H%M%S", time.localtime((last / RUN_FILE).stat().st_mtime))
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        kept = next(path for path in map(last.with_name, names) if not path.exists())
        with files_at_hand(f"cannot move {last} to {kept}"):
            last.rename(kept)
        print(f"note: what the run before left is in {kept}", file=sys.stderr)
        if inside and resume is not None:
            resume = kept / resume.resolve().relative_to(last.resolve())
    return last, resume


def _written(path: Path) -> dict[str, Any]:
    """The record that the run left of its end."""
    try:
        record = read_json(path)
        return record if isinstance(record, dict) and {"status", "summary"} <= set(record) else {}
    except (OSError, ValueError):
        return {}


def _evaluate_rungs(training: Training, options: dict[str, Any]) -> None:
    named = preset(training.config.preset)
    kernels = training.selection.plain()
    engine = training.engine
    result = rung_report(trainer_engine(engine), options["rungs"], named, kernels, training.dataset, engine.device)
    _print(result, rung_lines(result), options["as_json"])


def _print(data: object, lines: list[str], as_json: bool) -> None:
    print(json.dumps(data, indent=1, allow_nan=False) if as_json else "\n".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `train.py`; returns the exit code. The engine's own errors carry theirs."""

    def call() -> None:
        try:
            train.main(args=words(arguments), prog_name="train.py", standalone_mode=False)
        except (DataError, DataFailure) as error:
            sys.exit(complain(str(error), error.exit_code))
        except Exception as error:
            # An engine's errors cannot be named here without importing a framework; they are known by their exit code.
            code = getattr(error, "exit_code", None)
            if not isinstance(code, int) or isinstance(error, click.ClickException):
                raise
            sys.exit(complain(str(error), code))

    return run_guarded(call)
