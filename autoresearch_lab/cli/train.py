"""`train.py`: one training run of the chosen engine, with the kernels that were asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from autoresearch_data.dataset import open_dataset
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import complain, run_guarded
from autoresearch_lab.engine import choose
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.selection import resolve

DEFAULT_SECONDS = 300.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--engine", default="auto", show_default=True, help="auto, cpu, cuda or mlx.")
@click.option("--preset", default=None, help="Model and batch [default: the engine's own, cpu-nano on a CPU].")
@click.option("--time-budget", type=float, default=None, help="Seconds of training (300 where no --steps is given).")
@click.option("--steps", type=int, default=None, help="Train that many optimizer steps instead.")
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--kernels", default="promoted", show_default=True, help="baseline, promoted, or target=kernel,...")
@click.option("--dataset", default="stdlib", show_default=True, help="Name of a dataset that prepare.py has made.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of that dataset [default: data/NAME].")
@click.option("--eval-tokens", type=int, default=None, help="Validation tokens [default: the preset's].")
@click.option("--compile", "compiled", type=click.Choice(["on", "off"]), default="off", show_default=True)
@click.option("--smoke", is_flag=True, help="Two steps and a small evaluation: does everything work here?")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder of run.json [default: runs/last].")
@click.option("--save-weights", is_flag=True, help="Also write weights.safetensors there.")
@click.option("--checkpoint", is_flag=True, help="Write a checkpoint at the end, or when interrupted.")
@click.option("--resume", type=click.Path(path_type=Path), default=None, help="Continue from a checkpoint folder.")
@click.option("--root", type=click.Path(path_type=Path), default=CHECKOUT, hidden=True)
def train(**options: Any) -> None:
    """Train the model once and print the summary. Exit code: 0 trained, 1 training failed, 2 bad input."""
    root = Root(options["root"].expanduser().resolve())
    engine = choose(options["engine"])
    selection = resolve(options["kernels"], load_catalog(root), engine, root)
    for remark in selection.remarks:
        print(f"note: {remark}", file=sys.stderr)
    if options["time_budget"] is not None and options["steps"] is not None:
        raise LabError("give --time-budget or --steps, not both")
    folder = options["data_dir"] or root.data(options["dataset"])
    config_module = _room(engine.package, "config")
    changes = {
        "seed": options["seed"],
        "compile": options["compiled"] == "on",
        **({"eval_tokens": options["eval_tokens"]} if options["eval_tokens"] is not None else {}),
        **({"steps": options["steps"]} if options["steps"] is not None else {}),
        **({"time_budget": options["time_budget"] or DEFAULT_SECONDS} if options["steps"] is None else {}),
    }
    if options["time_budget"] is not None and not options["time_budget"] > 0:
        raise LabError(f"--time-budget must be positive, not {options['time_budget']}")
    config = config_module.TrainConfig.for_preset(options["preset"] or engine.default_preset, **changes)
    if options["smoke"]:
        config = config.smoke()
    dataset = open_dataset(Path(folder))
    with _room(engine.package, "console").Console() as console:
        _room(engine.package, "loop").run(
            config,
            selection.plain(),
            dataset,
            options["out"] or root.path / "runs" / "last",
            console,
            device=engine.device,
            weights=options["save_weights"],
            checkpoint=options["checkpoint"],
            resume=options["resume"],
        )


def _room(package: str, name: str) -> Any:
    """A module of the engine; imported late, so that --help and bad input need no framework."""
    return importlib.import_module(f"{package}.{name}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `train.py`; returns the exit code. The engine's own errors carry theirs."""

    def run() -> None:
        try:
            train.main(args=arguments, prog_name="train.py", standalone_mode=False)
        except (DataError, DataFailure) as error:
            sys.exit(complain(str(error), error.exit_code))
        except Exception as error:
            # An engine's errors cannot be named here without importing a framework; they are known by their exit code.
            code = getattr(error, "exit_code", None)
            if not isinstance(code, int) or isinstance(error, click.ClickException):
                raise
            sys.exit(complain(str(error), code))

    return run_guarded(run)
