"""Deep profile: Nsight Compute on one captured call of one kernel, as a record of the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoresearch_lab import jobs
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import write_atomic
from autoresearch_lab.profile.run import ensure_workloads
from autoresearch_lab.records import Record
from autoresearch_lab.trace import launch, ncu
from autoresearch_lab.workloads import WorkloadSet

WHAT = "deep-profile"
SECONDS = 600.0


def require(engine: Engine) -> str:
    """Path of ncu.

    Raises:
        LabError: the engine is not that of NVIDIA GPUs, or there is no ncu.
    """
    if engine.name != "cuda":
        raise LabError(f"{WHAT}: Nsight Compute measures NVIDIA GPUs (--engine cuda), not engine {engine.name}")
    return launch.find("ncu", WHAT)


def deep_profile(
    lab: Lab,
    target: Target,
    kernel: Kernel,
    program: str,
    workload: str | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Record:
    """Measure one call and append the record (kind "trace", settings.tool "ncu"). workload: id of a captured call;
    None: the one that moves the most bytes.

    Raises:
        LabError: no such call, or the kernel does not load.
        LabFailure: the call failed, or ncu measured nothing.
    """
    captured = ensure_workloads(target, lab, on_progress=on_progress)
    chosen = choose_workload(target, captured, workload)
    if on_progress is not None:
        on_progress({"stage": "one call under ncu"})
    with jobs.run_folder(lab.root, "ncu") as folder:
        launches = ncu.measure(
            program, lab.context.engine, target, kernel, captured, chosen, run_dir=folder, seconds=SECONDS
        )
    return lab.ledger.append(
        "trace",
        **lab.context.fields(),
        target=target.name,
        kernel={"name": kernel.name, "sha256": kernel.sha256},
        workloads=captured.record_field(),
        seeds={"inputs": ncu.SEED},
        settings={"tool": "ncu", "tool_version": launch.version(program), "workload": chosen["id"],
                  "metrics": list(ncu.METRICS), "launches": ncu.LAUNCHES},
        results={"launches": launches},
    )  # fmt: skip


def choose_workload(target: Target, captured: WorkloadSet, wanted: str | None) -> dict[str, Any]:
    """The captured call of that id; None: the one that moves the most bytes.

    Raises:
        LabError: there is none; the message lists those there are.
    """
    if wanted is None:
        return max(captured.workloads, key=lambda call: target.oracle.cost(call, "forward")[1])
    for call in captured.workloads:
        if call["id"] == wanted:
            return call
    known = ", ".join(call["id"] for call in captured.workloads)
    raise LabError(f"{WHAT}: no captured call of {target.name} is '{wanted}'; known: {known}")


def save(record: Record, path: Path) -> None:
    """Write what was found as JSON.

    Raises:
        LabError: the file cannot be written.
    """
    plain = record.plain()
    kept = (
        "schema",
        "id",
        "time",
        "engine",
        "device",
        "software",
        "target",
        "kernel",
        "workloads",
        "settings",
        "results",
    )
    try:
        write_atomic(path, json.dumps({name: plain[name] for name in kept}, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise LabError(f"{WHAT}: cannot write {path}: {error.strerror or error}") from None
