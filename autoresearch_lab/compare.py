"""Finished runs of train.py beside each other: what differs between them, what came out, and their curves as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autoresearch_common.reading import read_json
from autoresearch_lab import format as form
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root
from autoresearch_lab.results.base import Facts
from autoresearch_lab.runs_table import SMOKE_RUN
from autoresearch_trainer.loop import LOSS_SMOOTHING, RUN_FILE

COLUMNS, ROWS = 68, 14
MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
# What is different in every run, or follows from the rest.
LEFT_OUT = ("peak_flops",)


@dataclass(frozen=True)
class FinishedRun:
    """One run.json. mark: the letter of its curve; options: configuration, data and kernels, flat; curve: (seconds of
    training, smoothed loss) after each step."""

    mark: str
    path: Path
    record: Facts
    options: Facts
    curve: list[tuple[float, float]]

    @classmethod
    def read(cls, mark: str, given: Path) -> FinishedRun:
        """given: a run's folder or its run.json. Raises LabError for what is neither."""
        path = given / RUN_FILE if given.is_dir() else given
        if not path.exists():
            missing = f"it has no {RUN_FILE}" if given.is_dir() else "there is no such file or folder"
            raise LabError(f"{given} is no run of train.py: {missing}")
        try:
            record = read_json(path)
            return cls(mark, path, record, _options(record), _curve(record))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise LabError(f"{given} is no run of train.py: {why}") from None

    @property
    def summary(self) -> Facts:
        return self.record.get("summary") or {}


def _options(record: Facts) -> Facts:
    config = dict(record["config"])
    shape = config.pop("model")
    kernels = {f"kernel {name}": one["name"] for name, one in (record.get("kernels") or {}).items()}
    data = record["dataset"]
    about = {"dataset": f"{data['name']} {data['fingerprint'][:8]}", "device": record["device"]["name"]}
    return {**{k: v for k, v in config.items() if k not in LEFT_OUT}, **shape, **about, **kernels}


def _curve(record: Facts) -> list[tuple[float, float]]:
    seconds, smoothed, points = accumulate(record.get("step_seconds") or []), 0.0, []
    for number, (at, loss) in enumerate(zip(seconds, record.get("losses") or [], strict=False), start=1):
        if loss is None:
            break
        smoothed = LOSS_SMOOTHING * smoothed + (1 - LOSS_SMOOTHING) * loss
        points.append((at, smoothed / (1 - LOSS_SMOOTHING**number)))
    return points


def newest(root: Root, count: int) -> list[Path]:
    """The newest runs below runs/, the oldest of them first. Raises LabError where there is none."""
    runs = [path for path in (root.path / "runs").glob(f"*/{RUN_FILE}") if path.parent.name != SMOKE_RUN]
    found = sorted(runs, key=lambda path: path.stat().st_mtime)
    if not found:
        raise LabError(f"no run is in {root.path / 'runs'}; train.py leaves them there")
    return found[-count:]


def read_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Each of them a run's folder or its run.json. Raises LabError for one that is neither."""
    if len(paths) > len(MARKS):
        raise LabError(f"compare shows at most {len(MARKS)} runs, not {len(paths)}")
    return [FinishedRun.read(mark, given) for mark, given in zip(MARKS, paths, strict=False)]


def differences(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """{option: its value in each run} of the options that are not the same in all."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    values = {name: [run.options.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def comparison(runs: Sequence[FinishedRun]) -> Facts:
    """As data: the differing options, and each run's summary."""
    rows = [
        {
            "run": str(run.path),
            "description": run.record.get("description", ""),
            "status": run.record["status"],
            "summary": run.summary,
        }
        for run in runs
    ]
    return {"differences": differences(runs), "runs": rows}


def show(runs: Sequence[FinishedRun], console: Console) -> None:
    """A column for each run, then the curves."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for run in runs:
        table.add_column(f"{run.mark}: {run.path.parent.name}", justify="right")
    if any(run.record.get("description") for run in runs):
        table.add_row("description", *(run.record.get("description") or form.DASH for run in runs))
    for name, values in differences(runs).items():
        table.add_row(name, *(form.DASH if value is None else f"{value}" for value in values))
    table.add_section()
    table.add_row("status", *(run.record["status"] for run in runs))
    table.add_row("val_bpb", *(form.bpb(run.summary.get("val_bpb")) for run in runs))
    errors = [(run.record.get("evaluation") or {}).get("standard_error") for run in runs]
    table.add_row("standard error", *map(form.bpb, errors))
    for name, key in (("tokens/s", "tokens_per_second"), ("memory, MiB", "peak_vram_mb"), ("steps done", "num_steps")):
        table.add_row(name, *(form.number(run.summary.get(key), 4) for run in runs))
    table.add_row("MFU, %", *(form.number(run.summary.get("mfu_percent")) for run in runs))
    console.print(table)
    if len({(run.record.get("evaluation") or {}).get("tokens", 0) for run in runs if run.summary.get("val_bpb")}) > 1:
        console.print("the runs were evaluated on different tokens: their val_bpb do not compare", style="dim")
    if len({run.record["dataset"]["fingerprint"] for run in runs}) > 1:
        console.print("datasets differ: val_bpb compares only if the validation split is the same", style="dim")
    for line in chart([(run.mark, run.curve) for run in runs]):
        console.print(line, markup=False, highlight=False)


def chart(curves: Sequence[tuple[str, list[tuple[float, float]]]]) -> list[str]:
    """The curves in characters, without colour: loss over seconds; where several meet, a *. The first tenth is left
    out, for the fall from the start would flatten the rest."""
    known = [(mark, points) for mark, points in curves if points]
    if not known:
        return []
    seconds = max(points[-1][0] for _, points in known)
    late = [(mark, [p for p in points if p[0] >= seconds / 10] or points[-1:]) for mark, points in known]
    losses = [loss for _, points in late for _, loss in points]
    low, high = min(losses), max(losses)
    height = (high - low) or 1.0
    grid = [[" "] * COLUMNS for _ in range(ROWS)]
    for mark, points in late:
        for at, loss in points:
            row = round((high - loss) / height * (ROWS - 1))
            column = min(COLUMNS - 1, int(at / seconds * COLUMNS)) if seconds else 0
            grid[row][column] = mark if grid[row][column] in (" ", mark) else "*"
    labels = {0: f"{high:.3f}", ROWS - 1: f"{low:.3f}"}
    lines = [f"{labels.get(number, ''):>7} |{''.join(row).rstrip()}" for number, row in enumerate(grid)]
    return ["training loss, smoothed", *lines, f"{'':>7} +{'-' * COLUMNS}", f"{'':>8}0{seconds:>{COLUMNS - 2}.0f} s"]
