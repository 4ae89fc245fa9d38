"""Nsight Compute: hardware counters of what one call of a kernel launches."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.trace.launch import complaint, run_under
from autoresearch_trainer.jobs.timing import ONE_CALL, OneCallArgs

METRICS = {
    "gpu__time_duration.sum": "duration",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory throughput, % of the peak",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "arithmetic throughput, % of the peak",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "launch__registers_per_thread": "registers per thread",
}
NOT_MEASURED = "not measured"
LAUNCHES = 6
SECONDS = 600.0
# The clocks stay as they are: on a machine that is lent they are not this program's to set.
OPTIONS = ("--csv", "--page", "raw", "--clock-control", "none", "--profile-from-start", "off")


def measure(
    program: str, engine: Engine, args: OneCallArgs, *, run_dir: Path, seconds: float = SECONDS
) -> list[dict[str, str]]:
    """[{"kernel": name on the device, metric in words: reading with its unit}] of the first LAUNCHES that one call
    makes, forward and then backward where the trainer needs it.

    Raises:
        LabError: the kernel does not load, or there is no CUDA device.
        LabFailure: the kernel failed, or ncu may not read the counters; one line says which.
    """
    command = [program, *OPTIONS, "--metrics", ",".join(METRICS), "--launch-count", str(LAUNCHES)]
    _, printed = run_under(command, engine, ONE_CALL, args, run_dir=run_dir, seconds=seconds)
    launches = read_csv(printed)
    if not launches:
        raise LabFailure(f"ncu measured nothing: {complaint(printed)}")
    if all(reading == NOT_MEASURED for launch in launches for name, reading in launch.items() if name != "kernel"):
        raise LabFailure(f"ncu measured nothing: every counter of its {len(launches)} launches is nan")
    return launches


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows that `ncu --csv --page raw` prints behind its own messages: one per launch, a row of units first."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    rows = list(csv.DictReader(io.StringIO("\n".join(lines[start:]))))
    if not rows:
        return []
    units = rows[0]
    return [
        {
            "kernel": row.get("Kernel Name", ""),
            **{words: _reading(row[name], units[name]) for name, words in METRICS.items() if row.get(name)},
        }
        for row in rows[1:]
        if row.get("ID")
    ]


def _reading(value: str, unit: str | None) -> str:
    """With its unit. A counter that could not be collected is printed as nan."""
    if "nan" in value.lower() or value.lower() in ("n/a", "inf"):
        return NOT_MEASURED
    return f"{value} {unit or ''}".strip()
