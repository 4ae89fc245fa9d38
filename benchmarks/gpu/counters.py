"""Parts `capture` and `counters`: PyTorch's profiler over training steps, and Nsight Compute over one kernel."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from typing import Any

from autoresearch_lab.paths import CHECKOUT
from benchmarks.gpu.command import PartFailed, run
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.training import selection, verdicts_known

METRICS = {
    "gpu__time_duration.sum": "duration",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory throughput, % of the peak",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "arithmetic throughput, % of the peak",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "launch__registers_per_thread": "registers per thread",
}
LAUNCHES = 6


def capture(setting: Setting, seconds: float, parts: dict[str, Any]) -> dict[str, Any]:
    """What `trace` prints: the time on the device under every call of a target, forward and backward."""
    folder = setting.work / "capture"
    folder.mkdir(parents=True, exist_ok=True)
    chosen, *_ = selection(setting.kernels, verdicts_known(setting, parts))
    request = {
        "device": setting.device,
        "preset": setting.preset,
        "small": setting.rehearse,
        "steps": 1_000,
        "eval_tokens": 1,
        "dataset": str(setting.root.data(setting.dataset)),
        "selection": chosen,
        "peak_flops": None,
        "trace": str(setting.out / "trace.json.gz"),
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    done = run(setting, ["-m", "benchmarks.gpu.trace", str(path)], seconds, setting.rehearse)
    if done.code != 0:
        raise PartFailed(done.reason)
    found = done.json()
    if setting.rehearse:
        for row in (*found["ranges"].values(), *found["kernels"]):
            row["us"] = None
        found["total_us"] = None
    return found


def worst(parts: dict[str, Any]) -> dict[str, Any] | None:
    """The benched call whose kernel reaches the least share of the ceiling; None where there is none."""
    rows = [row for about in (parts.get("bench") or {}).values() for row in about.get("rows", [])]
    known = [row for row in rows if row["direction"] == "forward" and row["share_of_ceiling"].get(row["kernel"])]
    return min(known, key=lambda row: row["share_of_ceiling"][row["kernel"]], default=None)


def counters(setting: Setting, seconds: float, parts: dict[str, Any]) -> dict[str, Any]:
    """{"kernel", "launches": [{"kernel": name on the device, metric: value}]} of the worst kernel.

    Raises PartFailed where there is no ncu, it may not read the counters, or nothing was benched.
    """
    tool = shutil.which("ncu")
    if tool is None:
        raise PartFailed("ncu (Nsight Compute) is not on this machine")
    row = worst(parts)
    if row is None:
        raise PartFailed("no kernel was benched, so there is no worst one")
    command = [tool, "--csv", "--page", "raw", "--metrics", ",".join(METRICS), "--launch-count", str(LAUNCHES)]
    # The clocks stay as they are: on a machine that is lent they are not this program's to set.
    command += [
        "--clock-control",
        "none",
        "--profile-from-start",
        "off",
        sys.executable,
        "-m",
        "benchmarks.gpu.one_call",
    ]
    command += [str(setting.root.path), row["target"], row["kernel"], row["workload"]]
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=setting.environment(), capture_output=True, text=True, timeout=max(1.0, seconds)
        )
    except subprocess.TimeoutExpired:
        raise PartFailed(f"ncu: out of time after {seconds:.0f} s") from None
    launches = read_csv(done.stdout)
    if not launches:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "==ERROR==" in line or "rror" in line]
        raise PartFailed(f"ncu: {(lines or ['it printed no measurement'])[-1][:300]}")
    return {"kernel": f"{row['target']}={row['kernel']}", "workload": row["workload"], "launches": launches}


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
            **{words: f"{row[name]} {units[name] or ''}".strip() for name, words in METRICS.items() if row.get(name)},
        }
        for row in rows[1:]
        if row.get("ID")
    ]
