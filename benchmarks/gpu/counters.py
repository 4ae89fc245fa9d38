"""Parts `capture` and `counters`: PyTorch's profiler over training steps, and Nsight Compute over one kernel."""

from __future__ import annotations

import json
from typing import Any

from autoresearch_lab.bench.samples import BOTH
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.trace import launch, ncu
from autoresearch_lab.trace.deep import choose_workload
from benchmarks.gpu.command import PartFailed, run
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.training import selection, verdicts_known


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
    """The benched call, forward or backward, whose kernel loses most time per step against the ceiling; None where
    there is none. Not the one with the least share: that would always be a call too small to matter."""
    rows = [row for about in (parts.get("bench") or {}).values() for row in about.get("rows", [])]
    known = [row for row in rows if row["direction"] != BOTH and row["share_of_ceiling"].get(row["kernel"])]
    return max(known, key=_lost, default=None)


def _lost(row: dict[str, Any]) -> float:
    """Microseconds per step above the least that the ceiling allows."""
    kernel = row["kernel"]
    return (1 - row["share_of_ceiling"][kernel]) * row["microseconds"][kernel] * row["calls_per_step"]


def counters(setting: Setting, seconds: float, parts: dict[str, Any]) -> dict[str, Any]:
    """{"kernel", "launches": [{"kernel": name on the device, metric: value}]} of the worst kernel.

    Raises LabError or LabFailure where there is no ncu or it may not read the counters, PartFailed where nothing was
    benched.
    """
    program = launch.find("ncu", "counters")
    row = worst(parts)
    if row is None:
        raise PartFailed("no kernel was benched, so there is no worst one")
    target = setting.catalog[row["target"]]
    if setting.context is None:
        raise PartFailed("a rehearsal has no GPU to measure")
    captured = newest_workloads(target.name, setting.lab)
    if captured is None:
        raise PartFailed(f"no captured calls of {target.name}")
    engine, workload = setting.context.engine, choose_workload(target, captured, row["workload"])
    kernel = target.kernel(row["kernel"], engine.framework)
    folder = setting.work / "counters"
    launches = ncu.measure(
        program, engine, target, kernel, captured, workload, run_dir=folder, seconds=max(1.0, seconds)
    )
    return {"kernel": f"{row['target']}={row['kernel']}", "workload": row["workload"], "launches": launches}
